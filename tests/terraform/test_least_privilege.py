"""Who needs what, as data: the grants in terraform/iam.tf cover it and hold no more, the code calls for it."""

import ast
import re
from functools import cache

import pytest

from local.stack.terraform_config import TERRAFORM, declared, parsed
from tests.terraform.code import deployable
from tests.terraform.tools import ROOT

Permissions = set[str]

CODE = ("shared", "functions", "services", "dashboard")

CALLS: dict[tuple[str, str], Permissions] = {
    ("storage", "read"): {"storage.objects.get"},
    ("storage", "stat"): {"storage.objects.get"},
    ("storage", "read_range"): {"storage.objects.get"},
    ("storage", "objects"): {"storage.objects.list"},
    ("storage", "check_bucket"): {"storage.objects.list"},
    ("storage", "fingerprint"): set(),  # of what was listed
    ("storage", "notification"): set(),
    ("storage", "StorageError"): set(),
    ("storage", "create"): {"storage.objects.create", "storage.objects.delete"},
    ("storage", "replace"): {"storage.objects.create", "storage.objects.delete"},
    ("storage", "settle"): {"storage.objects.get", "storage.objects.create", "storage.objects.delete"},
    ("storage", "versions"): {"storage.objects.list"},
    ("storage", "erase"): {"storage.objects.delete"},
    ("storage", "write"): {"storage.objects.create", "storage.objects.delete"},
    ("storage", "copy"): {"storage.objects.get", "storage.objects.create", "storage.objects.delete"},
    ("pubsub", "publish"): {"pubsub.topics.publish"},
    ("pubsub", "publish_messages"): {"pubsub.topics.publish"},
    ("pubsub", "topic_path"): set(),  # names
    ("pubsub", "subscription_path"): set(),
    ("pubsub", "release"): {"pubsub.subscriptions.consume"},
    ("pubsub", "pull"): {"pubsub.subscriptions.consume"},
    ("subscriptions", "listening"): {"pubsub.subscriptions.consume"},
    ("pubsub", "acknowledge"): {"pubsub.subscriptions.consume"},
    ("bigquery", "append"): {"bigquery.tables.updateData"},
    ("bigquery", "load"): {
        "bigquery.jobs.create",
        "bigquery.tables.get",
        "bigquery.tables.updateData",
        "bigquery.tables.update",  # a load names the table's schema
        "storage.objects.get",
        "storage.objects.list",  # of the files that BigQuery reads as the caller
    },
    ("bigquery", "stream"): {"bigquery.jobs.create", "bigquery.tables.getData"},
    ("bigquery", "query"): {"bigquery.jobs.create", "bigquery.tables.getData"},
    ("bigquery", "count"): {"bigquery.jobs.create", "bigquery.tables.getData"},
    ("bigquery", "delete"): {"bigquery.jobs.create", "bigquery.tables.getData", "bigquery.tables.updateData"},
    ("bigquery", "raw_tables"): {"bigquery.tables.list", "bigquery.tables.get"},
    ("dataproc", "has_image"): set(),
    ("dataproc", "submit"): {"dataproc.batches.create", "dataproc.batches.get", "iam.serviceAccounts.actAs"},
    ("tasks", "call_once"): {"cloudtasks.tasks.create"},
    ("tasks", "TasksError"): set(),
    ("auth", "session"): {"run.routes.invoke"},
}
"""What Google asks for when an adapter's function is called: the API's own reference, method by method."""

NEEDS: dict[str, dict[str, Permissions]] = {
    "validate_scan": {
        "bucket uploads": {"storage.objects.get", "storage.objects.list"},
        "bucket scans": {"storage.objects.get", "storage.objects.create", "storage.objects.delete"},
        "bucket quarantine": {"storage.objects.create", "storage.objects.delete"},
        "topic scan-accepted": {"pubsub.topics.publish"},
        "topic scan-rejected": {"pubsub.topics.publish"},
    },
    "write_features": {
        "bucket scans": {"storage.objects.get"},
        "bucket prepared": {"storage.objects.get"},
        "table features": {"bigquery.tables.updateData"},
    },
    "score_scan": {
        "service inference": {"run.routes.invoke"},
        "table predictions": {"bigquery.tables.updateData"},
        "topic scan-scored": {"pubsub.topics.publish"},
    },
    "record_scan": {
        "table scans": {"bigquery.tables.updateData"},
        "table rejections": {"bigquery.tables.updateData"},
        "table series_slices": {"bigquery.tables.updateData"},
        "table slice_scores": {"bigquery.tables.updateData"},
        "table series": {"bigquery.tables.updateData"},
        "queue summarise_series": {"cloudtasks.tasks.create"},
    },
    "summarise_series": {
        "topic series-summarised": {"pubsub.topics.publish"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "gateway": {
        "bucket uploads": {"storage.objects.get", "storage.objects.list", "storage.objects.create"},
        "service inference": {"run.routes.invoke"},
        "subscription deliver-dicom": {"pubsub.subscriptions.consume"},
        "subscription deliver-dicomweb": {"pubsub.subscriptions.consume"},
        "subscription deliver-fhir": {"pubsub.subscriptions.consume"},
        "subscription deliver-hl7": {"pubsub.subscriptions.consume"},
    },
    "record_dead_letter": {
        "table dead_letters": {"bigquery.tables.updateData"},
    },
    "ingest_scans": {
        "bucket source": {"storage.objects.get", "storage.objects.list"},
        "bucket uploads": {"storage.objects.list", "storage.objects.create", "storage.objects.delete"},
    },
    "verify_ingestion": {
        "bucket source": {"storage.objects.list"},
        "bucket uploads": {"storage.objects.get", "storage.objects.list"},
        "bucket scans": {"storage.objects.get", "storage.objects.list"},
        "table ingestion_checks": {"bigquery.tables.updateData"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "reconcile": {
        "bucket uploads": {"storage.objects.get", "storage.objects.list"},
        "topic scan-uploaded": {"pubsub.topics.publish"},
        "topic score-scan-replay": {"pubsub.topics.publish"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "check_drift": {
        "bucket models": {"storage.objects.get"},
        "table drift_checks": {"bigquery.tables.updateData"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "check_pipeline": {
        "bucket uploads": {"storage.objects.get", "storage.objects.create", "storage.objects.delete"},
        "bucket models": {"storage.objects.get"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "start_preprocessing": {
        "topic preprocessing-dead-letter": {"pubsub.topics.publish"},
        "bucket prepared": {"storage.objects.list", "storage.objects.create", "storage.objects.delete"},
        "subscription preprocessing": {"pubsub.subscriptions.consume"},
        "account preprocessing": {"iam.serviceAccounts.actAs"},
        "project": {"dataproc.batches.create", "dataproc.batches.get"},
    },
    "inference": {
        "bucket scans": {"storage.objects.get"},
        "bucket models": {
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.create",
            "storage.objects.delete",
        },
        "table release_decisions": {"bigquery.tables.updateData"},
    },
    "dashboard": {
        "bucket models": {"storage.objects.get"},
        "service inference": {"run.routes.invoke"},
        "table feedback": {"bigquery.tables.updateData"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
    },
    "preprocessing": {
        "bucket scans": {"storage.objects.get"},
        "bucket models": {"storage.objects.get"},
        "bucket prepared": {
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.create",
            "storage.objects.delete",
        },
        "repository images": {"artifactregistry.repositories.downloadArtifacts"},
        "table features": {"bigquery.tables.get", "bigquery.tables.update", "bigquery.tables.updateData"},
        "table cnn_features": {"bigquery.tables.get", "bigquery.tables.update", "bigquery.tables.updateData"},
        "table preprocessing_errors": {"bigquery.tables.get", "bigquery.tables.update", "bigquery.tables.updateData"},
        "project": {"bigquery.jobs.create", "dataproc.agents.create"},
    },
    "training": {
        "bucket scans": {"storage.objects.get"},
        "dataset": {"bigquery.tables.getData"},
        "project": {"bigquery.jobs.create"},
        "bucket prepared": {"storage.objects.get", "storage.objects.list"},
        "bucket models": {
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.create",
            "storage.objects.delete",
        },
        "table release_decisions": {"bigquery.tables.updateData"},
    },
}
"""For each account whose calls are ours: what it does, and to what."""

ADD_ONLY = {"gateway"}
"""Who creates objects without the right to delete: `storage.create` tells such a caller that a name is taken, as the
tests of shared/gcp/storage.py show."""

ROLES: dict[str, Permissions] = {
    "roles/artifactregistry.reader": {"artifactregistry.repositories.downloadArtifacts"},
    "roles/bigquery.dataViewer": {"bigquery.tables.get", "bigquery.tables.getData"},
    "roles/bigquery.jobUser": {"bigquery.jobs.create"},
    "roles/cloudtasks.enqueuer": {"cloudtasks.tasks.create"},
    "roles/dataproc.worker": {"dataproc.agents.create"},
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
    "roles/pubsub.publisher": {"pubsub.topics.publish"},
    "roles/pubsub.subscriber": {"pubsub.subscriptions.consume"},
    "roles/run.invoker": {"run.routes.invoke", "run.jobs.run"},
    "roles/storage.objectCreator": {"storage.objects.create"},
    "roles/storage.objectUser": {
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
        "storage.objects.update",
    },
    "roles/storage.objectViewer": {"storage.objects.get", "storage.objects.list"},
}
"""Of each predefined role that part of Google's list which matters here."""

MESSAGING = (
    ("topic", "google_pubsub_topic_iam_member", "publishes"),
    ("subscription", "google_pubsub_subscription_iam_member", "drains"),
    ("queue", "google_cloud_tasks_queue_iam_member", "enqueues"),
)
"""Resources that an account is given by name, their grant, and the map that says to whom."""

UNREAD = {"iam.serviceAccounts.actAs", "artifactregistry.repositories.downloadArtifacts", "dataproc.agents.create"}
"""Asked for by no call of ours but by what Google does on its behalf."""

FORBIDDEN = re.compile(r"roles/(owner|editor|viewer)$|admin$", re.IGNORECASE)
EXCEPTIONS = {
    "roles/ondemandscanning.admin": "the only role that may ask for a scan of an image, and it can do no more"
}


def test_a_load_asks_for_no_right_to_create_tables():
    """A load job's default creates the table, and so asks for bigquery.tables.create even where the table exists."""
    code = deployable("preprocessing").reached
    jobs = [ast.unparse(node) for (module, _), node in code.items() if module == "shared.gcp.bigquery"]
    configured = [job for job in jobs if "bigquery.LoadJobConfig(" in job]
    assert configured
    assert all("create_disposition=bigquery.CreateDisposition.CREATE_NEVER" in job for job in configured)


def test_every_query_has_a_limit_of_bytes():
    """What is sent is looked at by tests/shared/gcp/test_bigquery.py; here, that nothing asks another way."""
    clients = [
        file for folder in CODE for file in (ROOT / folder).rglob("*.py") if "QueryJobConfig" in file.read_text()
    ]
    assert [file.name for file in clients] == ["bigquery.py"]
    calls = [node for node in ast.walk(ast.parse(clients[0].read_text())) if isinstance(node, ast.Call)]
    asking = [call for call in calls if ast.unparse(call.func) in ("client().query", "client().query_and_wait")]
    limits = [call for call in calls if ast.unparse(call.func) == "bigquery.QueryJobConfig"]
    assert len(asking) == len(limits) > 1
    assert all("job_config" in {given.arg for given in call.keywords} for call in asking)
    assert all("maximum_bytes_billed" in {given.arg for given in call.keywords} for call in limits)


def test_an_uploader_can_neither_delete_nor_overwrite():
    """To write over an object is to delete it, so the right to create must come without the right to delete."""
    roles = set(re.findall(r"roles/[\w.]+", _members()["google_storage_bucket_iam_member", "uploaders"]["for_each"]))
    assert {permission for role in roles for permission in ROLES[role]} == {
        "storage.objects.create",
        "storage.objects.get",
        "storage.objects.list",
    }


@pytest.mark.parametrize("account", ["gateway", "deployer"])
def test_who_only_adds_uploads_can_delete_none(account):
    granted = _grants(account)["bucket uploads"]
    assert "storage.objects.create" in granted
    assert not granted & {"storage.objects.delete", "storage.objects.update"}


def test_who_erases_may_do_what_the_command_calls_for_and_delete_no_table():
    needed = set().union(*(CALLS[call] for call in deployable("erase").calls if call in CALLS))
    buckets = re.findall(r"roles/[\w.]+", _members()["google_storage_bucket_iam_member", "erasers"]["for_each"])
    rows = _role("google_bigquery_dataset_iam_member", "erasers")
    jobs = _role("google_project_iam_member", "eraser_jobs")
    granted = {permission for role in {*buckets, rows, jobs} for permission in _permissions(role)}
    assert {call for call in deployable("erase").calls if call[1].islower()} <= CALLS.keys()
    assert {"storage.objects.delete", "bigquery.tables.updateData"} <= needed <= granted
    assert not {permission for permission in granted if permission.startswith("bigquery.tables.")} - needed


def _grants(account: str) -> dict[str, Permissions]:
    """What the maps of iam.tf give an account, resource by resource."""
    grants: dict[str, Permissions] = {}

    def give(resource: str, role: str) -> None:
        grants.setdefault(resource, set()).update(_permissions(role))

    local = declared()
    for bucket, rights in local["bucket_access"].get(account, {}).items():
        for right in rights:
            give(f"bucket {bucket}", local["object_roles"][right])
    if account in local["pointer_writers"]:
        give("bucket models", _role("google_storage_bucket_iam_member", "pointer_writers"))
    for table in local["table_appends"].get(account, []):
        give(f"table {table}", _role("google_bigquery_table_iam_member", "appends"))
    for table in local["table_loads"].get(account, []):
        give(f"table {table}", _role("google_bigquery_table_iam_member", "loads"))
        give("project", _role("google_project_iam_member", "jobs"))
    if account in local["queries"]:
        give("dataset", _role("google_bigquery_dataset_iam_member", "queries"))
        give("project", _role("google_project_iam_member", "jobs"))
    for resource, kind, name in MESSAGING:
        for each in local[name].get(account, []):
            give(f"{resource} {each}", _role(kind, name))
    if account in local["inference_callers"]:
        give("service inference", _role("google_cloud_run_v2_service_iam_member", "inference_callers"))
    for other in local["acts_as"].get(account, []):
        give(f"account {other}", _role("google_service_account_iam_member", "acts_as"))
    for (kind, name), grant in _named_grants():
        if f'"{account}"' in str(grant.get("for_each", "")) + grant["member"].replace("\\", ""):
            resource = {"spark": "project", "batch_submitter": "project", "source": "bucket source"}
            give(resource.get(name, "repository images"), _role(kind, name))
    return grants


def _named_grants() -> list[tuple[tuple[str, str], dict]]:
    """The few grants that name their accounts themselves."""
    names = ("spark", "batch_submitter", "source", "images_are_read")
    return [(key, grant) for key, grant in _members().items() if key[1] in names]


@cache
def _members() -> dict[tuple[str, str], dict]:
    """Every resource of terraform/**/*.tf that gives somebody a role."""
    found = {}
    for file in sorted(TERRAFORM.rglob("*.tf")):
        for block in parsed(file.read_text()).get("resource", []):
            for kind, resources in block.items():
                if re.fullmatch(r'"?google_\w+_iam_(member|binding|policy)"?', kind):
                    found |= {(kind.strip('"'), name.strip('"')): body for name, body in resources.items()}
    return found


def _role(kind: str, name: str) -> str:
    return _members()[kind, name]["role"].strip('"')


def _permissions(role: str) -> Permissions:
    """Permissions of a role, predefined or our own."""
    if custom := re.fullmatch(r"\$\{google_project_iam_custom_role\.(\w+)\.id\}", role):
        return _custom_roles()[custom[1]]
    return ROLES[role]


@cache
def _custom_roles() -> dict[str, Permissions]:
    blocks = parsed((TERRAFORM / "iam.tf").read_text())["resource"]
    return {
        name.strip('"'): {permission.strip('"') for permission in body["permissions"]}
        for block in blocks
        for kind, roles in block.items()
        if kind.strip('"') == "google_project_iam_custom_role"
        for name, body in roles.items()
    }


@pytest.mark.parametrize("account", NEEDS)
def test_the_code_calls_for_what_is_listed(account):
    """Every call of the code is in the list, and nothing is in the list that no call asks for."""
    called = {permission for call in deployable(account).calls for permission in CALLS.get(call, set())}
    listed = {permission for permissions in NEEDS[account].values() for permission in permissions}
    if account in ADD_ONLY:
        deleting = {call for call in deployable(account).calls if "storage.objects.delete" in CALLS.get(call, set())}
        assert deleting == {("storage", "create")}
        called.discard("storage.objects.delete")
    assert listed - UNREAD == called - UNREAD


@pytest.mark.parametrize("account", NEEDS)
def test_every_call_is_known(account):
    adapters = {call for call in deployable(account).calls if not call[1].istitle() and call[1] != "client"}
    assert adapters <= CALLS.keys()


@pytest.mark.parametrize("account", NEEDS)
def test_the_grants_cover_what_is_needed(account):
    grants = _grants(account)
    lacking = {where: needed - grants.get(where, set()) for where, needed in NEEDS[account].items()}
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("account", NEEDS)
def test_nothing_is_granted_where_nothing_is_needed(account):
    assert _grants(account).keys() == NEEDS[account].keys()


def test_reading_rights_never_write():
    for account, needs in NEEDS.items():
        for where, granted in _grants(account).items():
            if where.startswith("bucket") and needs[where] <= ROLES["roles/storage.objectViewer"]:
                assert granted <= ROLES["roles/storage.objectViewer"], f"{account}, {where}"


def test_who_writes_the_pointer_writes_nothing_else():
    condition = _members()["google_storage_bucket_iam_member", "pointer_writers"]["condition"]
    assert "objects/current.json" in str(condition)
    assert declared()["bucket_access"]["inference"]["models"] == ["read"]


def test_every_account_with_code_is_listed():
    services = {"inference", "dashboard", "preprocessing", "training", "gateway"}
    assert set(NEEDS) == set(declared()["steps"]) | set(declared()["scheduled"]) | services


def test_nobody_is_owner_editor_or_administrator():
    for (kind, name), grant in _members().items():
        if kind == "google_project_iam_member":
            roles = re.findall(r"roles/[\w.]+", grant["role"] + str(grant.get("for_each", "")))
            powerful = {role for role in roles if FORBIDDEN.search(role)} - EXCEPTIONS.keys()
            assert not powerful, name


def test_nothing_is_open_to_all():
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    assert "allUsers" not in text
    assert "allAuthenticatedUsers" not in text


def test_no_key_is_made_and_no_policy_replaces_what_others_granted():
    """Members are added one by one: a binding or a policy would take away what somebody else has given."""
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    assert "google_service_account_key" not in text
    assert {kind for kind, _ in _members() if not kind.endswith("_member")} == set()
