"""ingest_scans: what is new at the source is copied under its label, and never twice."""

import pytest
from flask.testing import FlaskClient

from shared.gcp import storage
from tests.functions.conftest import Cloud, client

TABLES = ()


@pytest.fixture(scope="module")
def ingest_scans(cloud: Cloud) -> FlaskClient:
    return client("ingest_scans", "http")


def put(cloud: Cloud, name: str, content: bytes) -> None:
    storage.create(cloud.buckets["source"], name, content, "image/jpeg")


def test_new_objects_are_copied_once_under_the_label_of_their_folder(cloud: Cloud, ingest_scans: FlaskClient) -> None:
    put(cloud, "Training/glioma/a.jpg", b"one")
    put(cloud, "Training/notumor/b.jpg", b"two")
    put(cloud, "inbox/c.jpg", b"three")
    put(cloud, "Training/glioma/copy-of-a.jpg", b"one")
    assert ingest_scans.post("/").json == {"copied": 3, "known": 1}
    assert sorted(name.split("/")[0] for name in cloud.names("uploads")) == ["Cancer", "Non-Cancer", "Unlabelled"]
    put(cloud, "Training/glioma/d.jpg", b"four")
    assert ingest_scans.post("/").json == {"copied": 1, "known": 4}
    assert ingest_scans.post("/").json == {"copied": 0, "known": 5}


def test_label_map_and_prefix_are_settings(
    cloud: Cloud, ingest_scans: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cloud, "ward/suspicious/e.jpg", b"five")
    monkeypatch.setenv("LABEL_MAP", "suspicious=Cancer")
    monkeypatch.setenv("SOURCE_PREFIX", "ward/")
    assert ingest_scans.post("/").json == {"copied": 1, "known": 0}
    contents = {storage.read(cloud.buckets["uploads"], name) for name in cloud.names("uploads") if "Cancer/" in name}
    assert b"five" in contents


def test_names_of_the_source_do_not_reach_the_log(
    cloud: Cloud, ingest_scans: FlaskClient, capfd: pytest.CaptureFixture[str]
) -> None:
    put(cloud, "Doe-Jane/f.jpg", b"six")
    assert ingest_scans.post("/").status_code == 200
    assert "Doe" not in "".join(capfd.readouterr())


def test_object_that_cannot_be_copied_holds_up_no_other(
    cloud: Cloud, ingest_scans: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        put(cloud, f"held-up/glioma/{number}.jpg", f"held up {number}".encode())
    monkeypatch.setenv("SOURCE_PREFIX", "held-up/")
    copy = storage.copy

    def refuse_one(source: storage.Blob, bucket: str, name: str) -> bool:
        if source.name.endswith("/1.jpg"):
            raise storage.StorageError("Cloud Storage: cannot copy: 403")
        return copy(source, bucket, name)

    monkeypatch.setattr(storage, "copy", refuse_one)
    before = len(cloud.names("uploads"))
    ingest_scans.application.config["PROPAGATE_EXCEPTIONS"] = False
    assert ingest_scans.post("/").status_code == 500  # so that Cloud Scheduler and its alert see it
    assert len(cloud.names("uploads")) == before + 4
    monkeypatch.setattr(storage, "copy", copy)
    assert ingest_scans.post("/").json == {"copied": 1, "known": 4}
