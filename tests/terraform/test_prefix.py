"""Two environments in one project: with a prefix every name carries it, but for what a project has once."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.stack.terraform_config import TERRAFORM
from tests.terraform.conftest import Tested

PREFIX = "dev-"
MARKS = (PREFIX, "dev_", "[dev] ")
"""The prefix where names take dashes, where they take none, and in what people read."""

NAMES = (
    *("account_id", "bucket", "bucket_id", "cloud_run_service_name", "dashboard_json", "dataset_id", "display_name"),
    *("member", "name", "repository", "repository_id", "role_id", "secret_id", "service", "service_account_id"),
    *("service_id", "subscription", "table_id", "topic"),
)
"""Attributes that tell a resource from others of its type, or what it belongs to."""

PROSE = ("documentation", "schema")
"""Attributes that tell people of a step by its plain name."""

ONCE = {
    "google_access_context_manager_service_perimeter.this": "a project is in one perimeter",
    "google_billing_budget.this": "it counts the whole project",
    "google_binary_authorization_policy.this": "a project has one policy",
    "google_logging_project_sink.default": "Google makes one, _Default",
    "google_project_default_service_accounts.this": "Compute Engine's own",
    "google_project_iam_audit_config.data": "a project has one audit configuration",
}
"""What a project has once, and why: the environment with owns_project makes it."""

IN_BOTH = {
    "google_kms_crypto_key_iam_member.agents": "Google's agents, which every environment of a project shares",
    "google_project_iam_member.eraser_jobs": "people, who may query in the whole project",
    "google_project_iam_member.researcher_jobs": "people, who may query in the whole project",
    "google_project_service.this": "switched on by both, switched off by neither",
    "google_project_service_identity.this": "made once by Google, whoever asks",
    "time_sleep.apis": "makes nothing",
    "time_sleep.builder": "makes nothing",
}
"""What two environments may both declare, and why that does no harm."""

OWNERS = {*ONCE, *(f"google_logging_project_{name}" for name in ("bucket_config.audit", "bucket_config.regional"))}
OWNERS |= {"google_logging_project_sink.audit"}

Resources = dict[str, dict[str, Any]]
"""Address -> values."""


@pytest.fixture(scope="module")
def prefixed(tested: Tested) -> Resources:
    """Everything switched on, with a prefix."""
    return _resources(tested("everything.tftest.hcl"))


@pytest.fixture(scope="module")
def bare(tested: Tested) -> Resources:
    """Three variables, without a prefix."""
    return _resources(tested("three_variables.tftest.hcl"))


def _resources(messages: dict[str, list[dict]]) -> Resources:
    (state,) = [message["test_state"] for message in messages["test_state"]]
    return {each["address"]: each["values"] for each in _listed(state["root_module"]) if each["mode"] == "managed"}


def _listed(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _listed(child)


def _kind(address: str) -> str:
    """Address of a resource without its keys."""
    return re.sub(r"\[[^\]]*\]", "", address)


def _own(resources: Resources) -> set[str]:
    """Addresses of what carries the prefix, or belongs to something that does: its mocked id is in one of the names."""
    own: set[str] = set()
    marks = set(MARKS)
    while True:
        found = {address for address, values in resources.items() if _carries(values, marks)}
        if found == own:
            return own
        own = found
        marks |= {values[name] for address, values in resources.items() if address in own for name in _mocked(values)}


def _carries(values: dict[str, Any], marks: set[str]) -> bool:
    return any(mark in str(values[name]) for name in NAMES if values.get(name) for mark in marks)


def _mocked(values: dict[str, Any]) -> Iterator[str]:
    """Attributes that Google would have filled in: a mock's text has eight letters and digits."""
    yield from (
        name for name in ("id", "email", "member", "name") if re.fullmatch(r"[a-z0-9]{8}", str(values.get(name, "")))
    )


def test_every_name_carries_the_prefix_but_for_what_a_project_has_once(prefixed: Resources) -> None:
    without = {_kind(address) for address in prefixed.keys() - _own(prefixed)}
    assert without == ONCE.keys() | IN_BOTH.keys()


def test_a_name_without_the_prefix_would_be_found(prefixed: Resources) -> None:
    topic = 'google_pubsub_topic.this["scan-uploaded"]'
    changed = prefixed | {topic: prefixed[topic] | {"name": "scan-uploaded"}}
    assert topic in changed.keys() - _own(changed)


def test_every_resource_is_made(prefixed: Resources) -> None:
    """What no test switches on, this one cannot look at."""
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    declared = {".".join(pair) for pair in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.M)}
    assert {_kind(address).removeprefix("module.step.") for address in prefixed} == declared


def test_without_a_prefix_every_name_is_the_same_less_the_prefix(prefixed: Resources, bare: Resources) -> None:
    for address in prefixed.keys() & bare.keys():
        for name in NAMES:
            given = prefixed[address].get(name)
            if isinstance(given, str) and name != "dashboard_json" and any(mark in given for mark in MARKS):
                stripped = given
                for mark in MARKS:
                    stripped = stripped.replace(mark, "")
                assert bare[address][name] == stripped, address


def test_nothing_names_what_is_the_other_environments(prefixed: Resources, bare: Resources) -> None:
    """Filters, settings and conditions too: a name of two words or more stands nowhere without the prefix."""
    names = {
        values[name]
        for values in bare.values()
        for name in ("account_id", "bucket", "bucket_id", "dataset_id", "name", "repository_id", "service_id")
        if re.search(r"\w[-/]\w", str(values.get(name) or "")) and "." not in values[name]
    }
    assert {"some-project-uploads", "validate-scan", "scan-uploaded", "scanflow/rejected"} <= names
    names.add("pseudonym-key")
    wrong = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(names)))})(?![\w-])")
    strays = {
        (address, stray[1])
        for address, values in prefixed.items()
        if not address.startswith(("google_storage_bucket_object.", "data."))
        for stray in wrong.finditer(json.dumps(values | dict.fromkeys(PROSE)))
    }
    assert strays == set()


def test_code_is_told_the_prefix_and_only_where_there_is_one(prefixed: Resources, bare: Resources) -> None:
    told = {address: _settings(values).get("NAME_PREFIX") for address, values in prefixed.items() if _settings(values)}
    assert len(told) > 12
    assert set(told.values()) == {PREFIX}
    assert not any("NAME_PREFIX" in _settings(values) for values in bare.values())


def _settings(values: dict[str, Any]) -> dict[str, str]:
    """Environment of a function, a service or a job."""
    if "service_config" in values:
        return values["service_config"][0]["environment_variables"]
    blocks = re.findall(r'"name": "([A-Z_]+)", "value": "([^"]*)"', json.dumps(values.get("template"), sort_keys=True))
    return dict(blocks)


def test_the_longest_prefix_leaves_room_for_the_longest_account(prefixed: Resources) -> None:
    accounts = [values["account_id"].removeprefix(PREFIX) for values in prefixed.values() if "account_id" in values]
    longest = max(map(len, accounts))
    assert longest == 19, "terraform/tests/variables_together.tftest.hcl tries a prefix of 12"


def test_a_second_environment_leaves_what_a_project_has_once_to_the_first(
    tested: Tested, prefixed: Resources, bare: Resources
) -> None:
    (plan,) = [message["test_plan"] for message in tested("second_environment.tftest.hcl")["test_plan"]]
    planned = {_kind(change["address"]) for change in plan["resource_changes"] if change["mode"] == "managed"}
    assert planned & OWNERS == set()
    assert {_kind(address) for address in bare} - OWNERS <= planned
    assert {_kind(address) for address in prefixed} >= OWNERS
