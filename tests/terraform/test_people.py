"""What people, imaging systems and pull requests may do, as applied with everything switched on.

The grants are read from the state, whoever wrote them: a right given in another file shows here too.
"""

from typing import Any

import pytest

from tests.terraform.conftest import Tested

PROJECT = "some-project"
PREFIX = "dev-"
TARGETS = (
    "bucket",
    "table_id",
    "dataset_id",
    "cloud_run_service_name",
    "topic",
    "subscription",
    "secret_id",
    "project",
)
"""Attributes that name what a grant is for, the narrower first."""

Grants = set[tuple[str, str]]
"""What, and the role."""

PEOPLE: dict[str, Grants] = {
    "serviceAccount:mri-3@some-project.iam.gserviceaccount.com": {
        (f"{PROJECT}-{PREFIX}uploads", "roles/storage.objectCreator"),
    },
    "user:uploader@example.org": {
        (f"{PROJECT}-{PREFIX}uploads", "roles/storage.objectCreator"),
        (f"{PROJECT}-{PREFIX}uploads", "roles/storage.objectViewer"),
    },
    "group:clinicians@example.org": {(f"{PREFIX}dashboard", "roles/iap.httpsResourceAccessor")},
    "group:researchers@example.org": {
        (f"{PROJECT}-{PREFIX}scans", "roles/storage.objectViewer"),
        (PROJECT, "roles/bigquery.jobUser"),
        *(
            (f"{table}{raw}", "roles/bigquery.dataViewer")
            for table in ("scans", "features", "cnn_features")
            for raw in ("", "_raw")
        ),
    },
    "user:privacy@example.org": {
        *((f"{PROJECT}-{PREFIX}{name}", "roles/storage.objectUser") for name in ("uploads", "scans", "quarantine")),
        (f"{PROJECT}-{PREFIX}prepared", "roles/storage.objectUser"),
        (f"{PROJECT}-{PREFIX}models", "roles/storage.objectViewer"),
        ("dev_scanflow", "dev_scanflowRowEraser"),
        (PROJECT, "roles/bigquery.jobUser"),
    },
}
"""As docs/operations/deploy.md promises, and nothing beside."""


@pytest.fixture(scope="module")
def resources(tested: Tested) -> dict[str, dict[str, Any]]:
    """Address -> values of the root module."""
    (state,) = [message["test_state"] for message in tested("everything.tftest.hcl")["test_state"]]
    modules = [state["root_module"], *state["root_module"].get("child_modules", [])]
    return {
        each["address"]: each["values"] | {"type": each["type"]}
        for module in modules
        for each in module.get("resources", [])
    }


def grants(resources: dict[str, dict[str, Any]], member: str) -> Grants:
    """Return all that a member is given anywhere."""
    own = {
        each["id"]: each["role_id"] for each in resources.values() if each["type"] == "google_project_iam_custom_role"
    }
    return {
        (next(each[name] for name in TARGETS if each.get(name)), own.get(each["role"], each["role"]))
        for each in resources.values()
        if each["type"].endswith("_iam_member") and each["member"] == member
    }


@pytest.mark.parametrize("member", PEOPLE)
def test_a_person_may_do_what_the_guide_says_and_nothing_else(resources, member):
    assert grants(resources, member) == PEOPLE[member]


def test_nobody_else_from_outside_is_given_anything(resources):
    members = {each["member"] for each in resources.values() if each["type"].endswith("_iam_member")}
    assert {member for member in members if member.startswith(("user:", "group:", "domain:", "all"))} == {
        member for member in PEOPLE if not member.startswith("serviceAccount:")
    }


def test_a_pull_requests_build_may_write_logs_and_nothing_else(resources):
    tester = resources['google_service_account.this["tester"]']
    build = resources['google_cloudbuild_trigger.pull_request["pull-request"]']
    assert build["service_account"] == tester["id"]
    assert [step["id"] for step in build["build"][0]["step"]] == ["test"], "they stand here, and in no file of its own"
    assert grants(resources, tester["member"]) == {(PROJECT, "roles/logging.logWriter")}
    acted_as = [each["service_account_id"] for each in resources.values() if "service_account_id" in each]
    assert not {tester["id"], tester["name"]} & set(acted_as), "nobody acts as it"
