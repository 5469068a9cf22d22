"""start_preprocessing: no accepted scan is lost, and its manifest ends in `_SUCCESS`, whatever dies in between."""

import os
import signal
import uuid
from collections.abc import Iterator

import psutil
import pytest
from flask.testing import FlaskClient

from local.samples import encode, healthy_slices
from local.stack.provision import make_buckets
from local.stack.system import BUCKETS, REGION, Stack
from shared.events import ScanAccepted
from shared.gcp import bigquery, dataproc, pubsub, storage
from shared.ml import manifests
from shared.ml.dataset import partitions_folder
from tests.functions.conftest import client
from tests.support.events import stored_scan
from tests.support.waiting import wait_until

SUBSCRIPTION = "preprocessing"


@pytest.fixture(scope="module")
def prepared(stack: Stack) -> Iterator[str]:
    """A prepared bucket of our own, and a subscription that others' scans were taken from."""
    bucket = f"{uuid.uuid4().hex[:8]}-prepared"
    make_buckets({"prepared": bucket})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREPARED_BUCKET", bucket)
        patch.setenv("REGION", REGION)
        patch.setenv("BATCH_TEMPLATE", "{}")
        pubsub.acknowledge(SUBSCRIPTION, pubsub.pull(SUBSCRIPTION, 100_000))
        yield bucket


@pytest.fixture(scope="module")
def start_preprocessing(prepared: str) -> FlaskClient:
    served = client("start_preprocessing", "http")
    served.application.config["PROPAGATE_EXCEPTIONS"] = False
    return served


@pytest.fixture(scope="module")
def scans(prepared: str) -> list[ScanAccepted]:
    """Six accepted scans, one of them announced twice."""
    events = [stored_scan(BUCKETS["scans"], encode(picture, "PNG")) for picture in healthy_slices()[12:18]]
    pubsub.publish([*events, events[0]])
    return events


def test_a_batch_that_is_killed_is_submitted_again_and_finishes(
    start_preprocessing: FlaskClient, prepared: str, scans: list[ScanAccepted]
) -> None:
    answer = start_preprocessing.post("/").json
    (manifest,) = answer["submitted"]
    listed = manifests.parse(storage.read(prepared, manifests.manifest_object(manifest)))
    assert {event.scan_id for event in listed} >= {event.scan_id for event in scans}
    assert len(listed) == len({(event.label, event.scan_id) for event in listed})

    # While the batch is under way, nobody starts another.
    assert start_preprocessing.post("/").json["submitted"] == []

    wait_until(lambda: list(storage.objects(prepared, partitions_folder(manifest))))
    os.killpg(driver(manifest).pid, signal.SIGKILL)
    wait_until(lambda: batch_state(manifest, 1) == dataproc.State.FAILED)
    assert manifests.success_object(manifest) not in names(prepared)

    assert start_preprocessing.post("/").json["submitted"] == [manifest]
    wait_until(lambda: manifests.success_object(manifest) in names(prepared))
    wait_until(lambda: batch_state(manifest, 2) == dataproc.State.SUCCEEDED)
    assert start_preprocessing.post("/").json == {"scans": 0, "submitted": []}
    sql = "SELECT scan_id FROM {dataset}.cnn_features WHERE scan_id IN UNNEST(@ids)"
    rows = bigquery.query(sql, ids=[event.scan_id for event in scans])
    assert sorted(row["scan_id"] for row in rows) == sorted(event.scan_id for event in scans)


def test_scans_stay_in_the_subscription_until_their_manifest_is_written(
    start_preprocessing: FlaskClient, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[20], "PNG"))
    pubsub.publish([event])
    acknowledged = []
    with monkeypatch.context() as patch:
        patch.setenv("PREPARED_BUCKET", "no-such-bucket")
        patch.setattr(pubsub, "acknowledge", lambda _, pulled: acknowledged.extend(pulled))
        assert start_preprocessing.post("/").status_code == 500
    assert acknowledged == []


def test_a_manifest_that_five_batches_could_not_finish_is_reported(
    start_preprocessing: FlaskClient, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pubsub.acknowledge(SUBSCRIPTION, pubsub.pull(SUBSCRIPTION, 100_000))
    monkeypatch.setattr(dataproc, "_JOB", "file:///app/tests/local/failing_job.py")
    storage.create(prepared, manifests.manifest_object("hopeless"), b"", "application/jsonl")
    for attempt in range(1, 6):
        start_preprocessing.post("/")
        wait_until(lambda attempt=attempt: batch_state("hopeless", attempt) == dataproc.State.FAILED)
    assert start_preprocessing.post("/").status_code == 500
    storage.create(prepared, manifests.success_object("hopeless"), b"{}", "application/json")
    assert start_preprocessing.post("/").status_code == 200


def driver(manifest: str) -> psutil.Process:
    """The running job of a manifest."""
    (process,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if manifest in (process.info["cmdline"] or []) and "java" not in process.info["cmdline"][0]
    ]
    return process


def batch_state(manifest: str, attempt: int) -> dataproc.State | None:
    """State of one attempt at a manifest."""
    return dataproc._state(f"prepare-{manifest}-{attempt}")


def names(bucket: str) -> set[str]:
    """Every object's name."""
    return {blob.name for blob in storage.objects(bucket)}
