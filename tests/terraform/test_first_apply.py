"""The first apply in a new project: every resource waits for what it needs, and asks for no more than there is."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from local.stack.terraform_config import TERRAFORM, declared, parsed, plain
from tests.terraform.tools import ROOT

WAIT = "time_sleep.apis"
BOOTSTRAP = TERRAFORM / "bootstrap.sh"
GUIDE = ROOT / "docs" / "operations" / "first-apply.md"
NAMED = r"`(module\.step\.|data\.)?([a-z0-9_]+\.[a-z0-9_]+)`"
API = {
    "google_access_context_manager_": "accesscontextmanager",
    "google_artifact_registry_": "artifactregistry",
    "google_bigquery_": "bigquery",
    "google_billing_budget": "billingbudgets",
    "google_binary_authorization_": "binaryauthorization",
    "google_cloud_run_": "run",
    "google_cloud_scheduler_": "cloudscheduler",
    "google_cloud_tasks_": "cloudtasks",
    "google_cloudbuild_": "cloudbuild",
    "google_cloudfunctions2_": "cloudfunctions",
    "google_compute_": "compute",
    "google_iap_": "iap",
    "google_kms_": "cloudkms",
    "google_logging_": "logging",
    "google_monitoring_": "monitoring",
    "google_project_default_service_accounts": "iam",
    "google_project_iam_audit_config": "cloudresourcemanager",
    "google_project_iam_custom_role": "iam",
    "google_project_iam_member": "cloudresourcemanager",
    "google_project_service_identity": "serviceusage",
    "google_pubsub_": "pubsub",
    "google_service_account": "iam",
    "google_secret_manager_": "secretmanager",
    "google_storage_": "storage",
}
"""The API that answers for a type of resource."""
READ_IN_PLAN = {"google_project": "cloudresourcemanager", "google_storage_bucket_object_content": "storage"}
"""Data sources that are read before anything is switched on, and their APIs."""
ON_BY_DEFAULT = {"storage", "serviceusage"}
QUOTA_CPU, QUOTA_GIB = 20, 40
"""Of Cloud Run in a region of a new project: https://cloud.google.com/run/quotas."""


@pytest.fixture(scope="module")
def graph(terraform, workspace) -> dict[str, set[str]]:
    """What each resource and data source waits for, by their names in the configuration."""
    printed = terraform(workspace, "graph", "-type=plan")
    assert printed.returncode == 0, printed.stderr
    edges: dict[str, set[str]] = {}
    for line in printed.stdout.splitlines():
        names = re.findall(r'"\[root\] (.*?)(?: \(expand\))?"', line.replace('\\"', "'"))
        if names and not re.search(r"provider\[.*\(close\)", line):  # a provider is closed after everything
            edges.setdefault(names[0], set()).update(names[1:])
    return edges


def waits_for(graph: dict[str, set[str]], name: str) -> set[str]:
    """Everything that has to be there before."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in graph.get(waiting.pop(), set()) - found:
            found.add(other)
            waiting.append(other)
    return found


def resources(graph: dict[str, set[str]]) -> list[str]:
    return [name for name in graph if re.fullmatch(r"(module\.step\.)?google_\w+\.\w+", name)]


def test_the_graph_holds_every_resource(graph):
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    assert len(resources(graph)) == len(re.findall(r'^resource "google_', text, re.M))


def test_every_resource_waits_for_its_api(graph):
    early = [
        name
        for name in resources(graph)
        if name != "google_project_service.this" and WAIT not in waits_for(graph, name)
    ]
    assert early == [], early


def walk() -> list[set[str]]:
    """Resources of each row of the guide's walk, as the graph names them."""
    rows = re.findall(r"^\| \d+ \| ([^|]*)", GUIDE.read_text(), re.M)
    return [
        {f"{module}google_{name}".replace("google_time_", "time_") for module, name in re.findall(NAMED, row)}
        for row in rows
    ]


def test_the_guide_walks_through_every_resource_once_and_none_before_what_it_waits_for(graph):
    rows = [row & graph.keys() for row in walk()]
    steps = {name: number for number, row in enumerate(rows) for name in row}
    read = {name for name in graph if name.startswith("data.google_")}
    made = {*resources(graph), *read, "time_sleep.apis", "time_sleep.builder"}
    assert made - steps.keys() == set(), "the guide says nothing of these"
    assert len(steps) == sum(map(len, rows)), "one stands there twice"
    early = {(name, other) for name in made for other in waits_for(graph, name) & made if steps[other] > steps[name]}
    assert early == set(), "the first waits for the second, which the guide has later"


def test_the_guide_names_proofs_that_there_are():
    proofs = set(re.findall(r"`(\w+\.py|\w+\.tftest\.hcl)`", GUIDE.read_text()))
    there = {file.name for folder in (TERRAFORM / "tests", ROOT / "tests" / "terraform") for file in folder.iterdir()}
    assert proofs
    assert proofs <= there


def test_the_wait_is_for_the_apis(graph):
    assert "google_project_service.this" in waits_for(graph, WAIT)


def test_every_api_that_a_resource_needs_is_switched_on():
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    kinds = set(re.findall(r'^resource "(google_\w+)"', text, re.M)) - {"google_project_service"}
    needed = {kind: [api for prefix, api in API.items() if kind.startswith(prefix)] for kind in kinds}
    assert [kind for kind, apis in needed.items() if not apis] == []
    assert {apis[-1] for apis in needed.values()} - set(declared()["apis"]) <= ON_BY_DEFAULT


def test_what_spark_needs_is_switched_on():
    """Runtime 3.0 has an API of its own, for which no resource stands here."""
    assert {"dataproc", "dataprocrm", "compute"} <= set(declared()["apis"])


def test_what_is_read_in_plan_is_switched_on_by_the_bootstrap(graph):
    early = {
        name.split(".")[1] for name in graph if name.startswith("data.google_") and WAIT not in waits_for(graph, name)
    }
    assert early == READ_IN_PLAN.keys()
    switched_on = set(re.findall(r"(\w+)\.googleapis\.com", BOOTSTRAP.read_text()))
    assert {READ_IN_PLAN[name] for name in early} - ON_BY_DEFAULT <= switched_on
    assert {"iam", "serviceusage"} <= switched_on


def test_no_required_argument_is_read_from_google():
    """Billing accounts are unset in a data source where the Billing API is off, and a mock invents one."""
    (budget,) = _named("google_billing_budget").values()
    assert budget["billing_account"] == "${var.billing_account}"


def test_the_builds_wait_for_the_builders_rights(graph):
    before = waits_for(graph, "module.step.google_cloudfunctions2_function.this")
    assert "time_sleep.builder" in before
    rights = {"google_project_iam_member.function_builder", "google_project_iam_member.function_builder_sources"}
    assert rights <= waits_for(graph, "time_sleep.builder")


def test_whoever_is_given_a_secret_may_read_it_before(graph):
    """Cloud Run refuses a revision whose account may not read a secret that it is given."""
    grants = "google_secret_manager_secret_iam_member"
    assert f"module.step.{grants}.reads" in waits_for(graph, "module.step.google_cloudfunctions2_function.this")
    assert f"{grants}.pseudonym_key" in waits_for(graph, "google_cloud_run_v2_service.dashboard")


def test_an_agent_is_made_before_it_is_given_anything():
    """A service agent's address made of the project's number names nobody until Google has made the agent."""
    text = re.sub(r"#.*", "", "".join(file.read_text() for file in TERRAFORM.rglob("*.tf")))
    assert set(re.findall(r"service-\$\{[^}]*\}@([\w-]+)", text)) == {
        "compute-system"
    }  # there as soon as Compute is on


def sizes() -> Iterator[tuple[str, float, float, int]]:
    """Name, CPUs, GiB and most instances of every function and service."""
    defaults = _module_defaults()
    for name, step in (declared()["steps"] | declared()["scheduled"]).items():
        size = defaults | step
        yield name, float(size["cpu"]), _gib(size["memory"]), size["max_instances"]
    for name, service in _named("google_cloud_run_v2_service").items():
        limits = service["template"][0]["containers"][0]["resources"][0]["limits"]
        found = re.search(rf"\b{name}\b['\"]?\s*[=:]\s*(\d+)", str(declared()["max_instances"]))
        yield name, float(limits["cpu"]), _gib(limits["memory"]), int(found[1])


def test_a_new_projects_quota_is_respected():
    asked = {name: (cpu * most, gib * most) for name, cpu, gib, most in sizes()}
    assert asked.keys() >= {"validate_scan", "verify_ingestion", "inference", "dashboard"}
    assert {name: size for name, size in asked.items() if size[0] > QUOTA_CPU or size[1] > QUOTA_GIB} == {}


def test_a_gpu_is_only_asked_for_on_demand():
    (variable,) = [block["training_gpu"] for block in _blocks("variable") if "training_gpu" in block]
    assert variable["default"] is False


def test_promql_names_the_resource_type():
    """Metrics of the log are of several resource types: without the type a query is refused."""
    text = "".join((TERRAFORM / name).read_text() for name in ("monitoring.tf", "dashboard.json"))
    text = re.sub(r"\$\{(local\.)?underscored\}", "", text)
    text = text.replace("${local.predictions}", "logging_googleapis_com:user_x_count").replace("\\", "")
    for selector in re.findall(r"logging_googleapis_com:\w+(.?.{0,80})", text):
        if selector[:1] != '"':  # the name alone, of which selectors are made
            assert selector.startswith('{monitored_resource="cloud_run_revision"'), selector


def test_an_old_version_of_an_object_goes():
    """Conditions of one rule must all hold: joined, the last versions of a deleted object would stay for ever."""
    rules = [rule["condition"][0] for rule in _named("google_storage_bucket")["this"]["lifecycle_rule"]]
    alone = [condition for condition in rules if "days_since_noncurrent_time" in condition]
    assert [len(_keys(condition)) for condition in alone] == [1]


def test_nothing_moves_to_colder_storage():
    assert "SetStorageClass" not in (TERRAFORM / "storage.tf").read_text()


def test_a_pull_request_cannot_change_its_own_build():
    trigger = _named("google_cloudbuild_trigger")["pull_request"]
    assert "filename" not in trigger
    assert trigger["service_account"] == '${google_service_account.this["tester"].id}'
    roles = [grant["role"] for name, grant in _named("google_project_iam_member").items() if name == "tester"]
    assert roles == ["roles/logging.logWriter"]
    given = [name for name, grant in _all_grants() if "tester" in str(grant.get("member")) + str(grant.get("for_each"))]
    assert given == ["tester"]
    assert not any(
        "tester" in declared()[table] for table in ("bucket_access", "table_appends", "publishes", "acts_as")
    )


def test_the_bootstrap_parses_and_asks_for_a_project():
    subprocess.run(["bash", "-n", BOOTSTRAP], check=True)
    done = subprocess.run(["bash", BOOTSTRAP], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "bootstrap.sh PROJECT REGION [PREFIX]" in done.stderr


def test_the_bootstrap_refuses_what_is_no_prefix():
    """A prefix of another form would be refused by Terraform too, but after a bucket and a key were made for it."""
    done = subprocess.run(["bash", BOOTSTRAP, "a", "b", "dev"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, "ends with a dash" in done.stderr) == (2, True)


def test_the_bootstrap_leaves_what_is_deployed_alone():
    """images.json is created once: a second run must not put hello pages where services are."""
    (line,) = [line for line in BOOTSTRAP.read_text().splitlines() if "images.json" in line and "storage cp" in line]
    assert "--if-generation-match=0" in line


def _all_grants() -> list[tuple[str, dict[str, Any]]]:
    return [
        item
        for block in _blocks("resource")
        for kind, named in block.items()
        if kind.endswith("_iam_member")
        for item in named.items()
    ]


def _gib(memory: str) -> float:
    return float(memory.removesuffix("Gi")) if memory.endswith("Gi") else float(memory.removesuffix("Mi")) / 1024


def _keys(block: dict[str, Any]) -> set[str]:
    return {key for key in block if not key.startswith("__")}


def _module_defaults() -> dict[str, Any]:
    text = (TERRAFORM / "modules" / "step" / "variables.tf").read_text()
    found = re.findall(r"(\w+)\s+= optional\(\w+, (?:\"([^\"]+)\"|(\d+))\)", text)
    return {name: words or int(number) for name, words, number in found}


def _named(kind: str) -> dict[str, dict[str, Any]]:
    """Resources of a type in the root module, by name."""
    return {
        name: body
        for block in _blocks("resource")
        for of, named in block.items()
        if of == kind
        for name, body in named.items()
    }


@cache
def _blocks(kind: str) -> list[dict[str, Any]]:
    files = sorted(TERRAFORM.glob("*.tf"))
    return [plain(block) for file in files for block in parsed(file.read_text()).get(kind, [])]
