"""verify_ingestion: passes over a corridor that lost nothing, and fails loudly where something is missing."""

from dataclasses import asdict

import pytest
from flask.testing import FlaskClient

from local.samples import samples
from shared.events import ScanAccepted, ScanRejected
from shared.gcp import bigquery, storage
from tests.functions.conftest import Cloud, client, push


@pytest.fixture(scope="module")
def verify_ingestion(cloud: Cloud) -> FlaskClient:
    """The function, over samples carried through validate_scan and record_scan."""
    validate_scan, record_scan = push("validate_scan"), push("record_scan")
    for sample in samples():
        assert validate_scan(cloud.upload(sample.object_name, sample.content, {"source": "test"})) == 200
    for kind in (ScanAccepted, ScanRejected):
        for event in cloud.pull(kind.TOPIC):
            assert record_scan(asdict(kind(**event)), event=kind.TOPIC) == 200
    for name in cloud.names("uploads"):
        storage.create(cloud.buckets["source"], name, storage.read(cloud.buckets["uploads"], name), "image/jpeg")
    return client("verify_ingestion", "http")


def test_complete_corridor_passes_and_is_recorded(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    response = verify_ingestion.post("/?grace_s=0")
    assert response.status_code == 200, response.text
    files = {check["label"]: check["uploaded_files"] for check in response.json["checks"]}
    assert files == {"Cancer": 4, "Non-Cancer": 4, "Unlabelled": 3}
    assert all(check["rehashed"] >= check["uploaded_files"] for check in response.json["checks"])
    rows = bigquery.query("SELECT label, passed FROM {dataset}.ingestion_checks")
    assert {row["label"]: row["passed"] for row in rows} == dict.fromkeys(files, True)


def test_uploads_still_under_way_are_left_to_the_next_check(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    cloud.upload("Cancer/just-now", b"not validated yet")
    status = verify_ingestion.post("/").status_code
    storage.client().bucket(cloud.buckets["uploads"]).blob("Cancer/just-now").delete()
    assert status == 200


@pytest.mark.parametrize("bucket", ["uploads", "scans", "source"])
def test_anything_missing_or_changed_fails_loudly(cloud: Cloud, verify_ingestion: FlaskClient, bucket: str) -> None:
    extra = storage.client().bucket(cloud.buckets[bucket]).blob("Non-Cancer/stray.png")
    extra.metadata = {"uploaded-at": "2026-01-01T00:00:00+00:00"}
    extra.upload_from_string(b"unknown to everything else")
    try:
        assert verify_ingestion.post("/?grace_s=0").status_code == 500
    finally:
        extra.delete()
    (failed,) = bigquery.query(
        "SELECT label FROM {dataset}.ingestion_checks WHERE NOT passed ORDER BY checked_at DESC LIMIT 1"
    )
    assert failed["label"] == "Non-Cancer"


def test_scan_whose_bytes_changed_is_found_by_its_hash(cloud: Cloud, verify_ingestion: FlaskClient) -> None:
    name = cloud.names("scans")[0]
    content = storage.read(cloud.buckets["scans"], name)
    blob = storage.client().bucket(cloud.buckets["scans"]).get_blob(name)
    changed = storage.client().bucket(cloud.buckets["scans"]).blob(name)
    changed.metadata = blob.metadata
    changed.upload_from_string(content + b"!")
    try:
        assert verify_ingestion.post("/?grace_s=0").status_code == 500
    finally:
        changed.upload_from_string(content)
    (check,) = bigquery.query(
        "SELECT mismatched FROM {dataset}.ingestion_checks ORDER BY checked_at DESC, passed LIMIT 1"
    )
    assert check["mismatched"] == 1
