"""verify_ingestion: passes over a pipeline that lost nothing, and fails loudly if something is missing or changed."""

from collections.abc import Callable
from dataclasses import asdict

import pytest
from flask.testing import FlaskClient

from local.samples import samples
from shared.events import ScanAccepted, ScanRejected
from shared.gcp import bigquery, storage
from tests.functions.conftest import Cloud, client, push

KINDS = {kind.TOPIC: kind for kind in (ScanAccepted, ScanRejected)}


def passed_on(cloud: Cloud) -> list[tuple[str, dict]]:
    """Every event announced since the last call, with its topic."""
    return [(topic, event) for topic in KINDS for event in cloud.pull(topic)]


@pytest.fixture(scope="module")
def record(cloud: Cloud) -> Callable[[list[tuple[str, dict]]], None]:
    """Write the rows of events."""
    record_scan = push("record_scan")

    def write(events: list[tuple[str, dict]]) -> None:
        for topic, event in events:
            assert record_scan(asdict(KINDS[topic](**event)), event=topic) == 200

    return write


@pytest.fixture(scope="module")
def verify_ingestion(cloud: Cloud, record: Callable) -> FlaskClient:
    """The function, over samples carried through validate_scan and record_scan."""
    validate_scan = push("validate_scan")
    for sample in samples():
        assert validate_scan(cloud.upload(sample.object_name, sample.content, {"source": "test"})) == 200
        record(passed_on(cloud))
    for name in cloud.names("uploads"):
        storage.create(cloud.buckets["source"], name, storage.read(cloud.buckets["uploads"], name), "image/jpeg")
    return client("verify_ingestion", "http")


def last_checks() -> dict[str, dict]:
    """The rows of the last check by label."""
    newest = "(SELECT MAX(checked_at) FROM {dataset}.ingestion_checks)"
    sql = "SELECT * FROM {dataset}.ingestion_checks WHERE checked_at = " + newest
    return {row["label"]: row for row in bigquery.query(sql)}


def blob(cloud: Cloud, bucket: str, name: str) -> storage.Blob:
    return storage.client().bucket(cloud.buckets[bucket]).blob(name)


def test_complete_pipeline_passes_and_is_recorded(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    response = verify_ingestion.post("/?grace_s=0")
    assert response.status_code == 200, response.text
    files = {check["label"]: check["uploaded_files"] for check in response.json["checks"]}
    assert sum(files.values()) == len(cloud.names("uploads")) == len(samples())  # copies of a file too
    rows = last_checks()
    for label, count in files.items():
        assert rows[label]["recorded_files"] == count
        assert rows[label]["rehashed"] > 0
        assert rows[label]["passed"]


def test_what_check_pipeline_sends_is_not_counted(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    cloud.upload("Unlabelled/synthetic/head.jpg", b"sent again and again", {"source": "synthetic"})
    response = verify_ingestion.post("/?grace_s=0")
    blob(cloud, "uploads", "Unlabelled/synthetic/head.jpg").delete()
    assert response.status_code == 200, response.text
    assert sum(check["uploaded_files"] for check in response.json["checks"]) == len(samples())


def test_uploads_still_under_way_are_left_to_the_next_check(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    cloud.upload("Cancer/just-now", b"not validated yet")
    status = verify_ingestion.post("/").status_code
    blob(cloud, "uploads", "Cancer/just-now").delete()
    assert status == 200


def test_one_lost_and_another_withdrawn_is_a_failure(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    """Uploads, objects and rows are as many as each other here."""
    withdrawn = next(name for name in cloud.names("uploads") if name.startswith("Non-Cancer/"))
    content = storage.read(cloud.buckets["uploads"], withdrawn)
    blob(cloud, "uploads", withdrawn).delete()
    cloud.upload("Non-Cancer/lost", b"nobody was told of this")
    assert verify_ingestion.post("/?grace_s=0").status_code == 500
    row = last_checks()["Non-Cancer"]
    assert (row["lost_files"], row["withdrawn_files"], row["passed"]) == (1, 1, False)
    blob(cloud, "uploads", "Non-Cancer/lost").delete()
    assert verify_ingestion.post("/?grace_s=0").status_code in (200, 500)
    assert last_checks()["Non-Cancer"]["lost_files"] == 0
    storage.create(cloud.buckets["source"], f"{withdrawn}-again", content, "image/png")  # else the source lacks nothing


def test_withdrawn_upload_is_a_state_and_no_mismatch(
    cloud: Cloud, verify_ingestion: FlaskClient, record: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "")
    assert verify_ingestion.post("/?grace_s=0").status_code == 200
    assert last_checks()["Non-Cancer"]["withdrawn_files"] == 1
    assert last_checks()["Non-Cancer"]["source_files"] is None


def test_pages_that_were_never_recorded_are_a_failure(
    cloud: Cloud, verify_ingestion: FlaskClient, record: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "")
    several = next(sample for sample in samples() if isinstance(sample.expected, int) and sample.expected > 1)
    notification = cloud.upload("Unlabelled/several", several.content + b"\0")
    assert push("validate_scan")(notification) == 200
    events = passed_on(cloud)
    record(events[:1])
    assert verify_ingestion.post("/?grace_s=0").status_code == 500
    assert last_checks()["Unlabelled"]["incomplete_files"] == 1
    record(events[1:])
    assert verify_ingestion.post("/?grace_s=0").status_code == 200


def test_scan_whose_object_is_gone_is_a_failure(
    cloud: Cloud, verify_ingestion: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "")
    name = cloud.names("scans")[0]
    content = storage.read(cloud.buckets["scans"], name)
    blob(cloud, "scans", name).delete()
    try:
        assert verify_ingestion.post("/?grace_s=0").status_code == 500
    finally:
        storage.create(cloud.buckets["scans"], name, content, "image/png")
    assert sum(row["unstored_files"] for row in last_checks().values()) == 1


def test_file_of_the_source_that_was_not_copied_is_a_failure_after_an_hour(
    cloud: Cloud, verify_ingestion: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.gcp.accounting._SOURCE_GRACE_S", 0)
    storage.create(cloud.buckets["source"], "Cancer/forgotten", b"nobody copied this", "image/png")
    assert verify_ingestion.post("/?grace_s=0").status_code == 500
    row = last_checks()["Cancer"]
    assert row["source_files"] - row["ingested_files"] == 1
    monkeypatch.setattr("shared.gcp.accounting._SOURCE_GRACE_S", 3600)
    assert verify_ingestion.post("/?grace_s=0").status_code == 200


def test_scan_whose_bytes_changed_is_found_by_its_hash(
    cloud: Cloud, verify_ingestion: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "")
    name = cloud.names("scans")[0]
    content = storage.read(cloud.buckets["scans"], name)
    blob(cloud, "scans", name).upload_from_string(content + b"!")
    try:
        assert verify_ingestion.post("/?grace_s=0").status_code == 500
    finally:
        blob(cloud, "scans", name).upload_from_string(content)
    assert sum(row["mismatched"] for row in last_checks().values()) == 1
