"""start_preprocessing: no accepted scan is lost, and its manifest ends in `_SUCCESS`, whatever dies in between."""

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest
from flask.testing import FlaskClient
from google.cloud import pubsub_v1

from local.samples import encode, healthy_slices
from local.stack.provision import make_buckets
from local.stack.system import BUCKETS, PROJECT, REGION, Stack
from shared.events import ScanAccepted
from shared.gcp import bigquery, dataproc, pubsub, storage
from shared.ml import manifests
from shared.ml.dataset import partitions_folder
from tests.functions.conftest import client
from tests.support.events import scan_accepted, stored_scan
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
    synthetic = stored_scan(BUCKETS["scans"], encode(healthy_slices()[18], "PNG"), source="synthetic")
    pubsub.publish([synthetic, *events, events[0]])
    return events


@pytest.mark.drill
def test_a_batch_that_is_killed_is_submitted_again_and_finishes(
    start_preprocessing: FlaskClient, prepared: str, scans: list[ScanAccepted]
) -> None:
    answer = start_preprocessing.post("/?fewest=1").json
    (manifest,) = answer["submitted"]
    listed = manifests.parse(storage.read(prepared, manifests.manifest_object(manifest)))
    assert {event.scan_id for event in listed} >= {event.scan_id for event in scans}
    assert len(listed) == len({(event.label, event.scan_id) for event in listed})
    assert "synthetic" not in {event.source for event in listed}

    # While the batch is under way, nobody starts another.
    assert start_preprocessing.post("/?fewest=1").json["submitted"] == []

    wait_until(lambda: list(storage.objects(prepared, partitions_folder(manifest))))
    os.killpg(driver(manifest).pid, signal.SIGKILL)
    wait_until(lambda: batch_state(manifest, 1) == dataproc.State.FAILED)
    assert manifests.success_object(manifest) not in names(prepared)

    assert start_preprocessing.post("/?fewest=1").json["submitted"] == [manifest]
    wait_until(lambda: manifests.success_object(manifest) in names(prepared))
    wait_until(lambda: batch_state(manifest, 2) == dataproc.State.SUCCEEDED)
    assert start_preprocessing.post("/?fewest=1").json == {"scans": 0, "submitted": []}
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
        assert start_preprocessing.post("/?fewest=1").status_code == 500
    assert acknowledged == []


def test_a_manifest_that_five_batches_could_not_finish_is_reported(
    start_preprocessing: FlaskClient, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pubsub.acknowledge(SUBSCRIPTION, pubsub.pull(SUBSCRIPTION, 100_000))
    monkeypatch.setattr(dataproc, "_JOB", "file:///app/tests/local/failing_job.py")
    storage.create(prepared, manifests.manifest_object("hopeless"), b"", "application/jsonl")
    for attempt in range(1, 6):
        start_preprocessing.post("/?fewest=1")
        wait_until(lambda attempt=attempt: batch_state("hopeless", attempt) == dataproc.State.FAILED)
    assert start_preprocessing.post("/?fewest=1").status_code == 500
    storage.create(prepared, manifests.success_object("hopeless"), b"{}", "application/json")
    assert start_preprocessing.post("/?fewest=1").status_code == 200


def test_before_the_first_build_manifests_wait_and_no_batch_fails_for_them(
    start_preprocessing: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"{uuid.uuid4().hex[:8]}-prepared"
    make_buckets({"prepared": bucket})
    monkeypatch.setenv("PREPARED_BUCKET", bucket)
    template = {"runtimeConfig": {"containerImage": "us-docker.pkg.dev/cloudrun/container/hello"}}
    monkeypatch.setenv("BATCH_TEMPLATE", json.dumps(template))
    storage.create(bucket, manifests.manifest_object("early"), b"", "application/jsonl")
    assert start_preprocessing.post("/").json["submitted"] == []
    assert batch_state("early", 1) is None


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


class Feed:
    """A pull subscription of our own under the real one's name, and a topic that only it hears."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        mark = uuid.uuid4().hex[:8]
        self.topic, self.subscription = f"feed-{mark}", f"feed-{mark}"
        publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        path = publisher.topic_path(PROJECT, self.topic)
        publisher.create_topic(name=path)
        subscriber.create_subscription(name=subscriber.subscription_path(PROJECT, self.subscription), topic=path)
        for name in ("pull", "acknowledge", "release"):
            patch.setattr(pubsub, name, self._ours(getattr(pubsub, name)))

    def _ours(self, call: Callable) -> Callable:
        return lambda name, *rest: call(self.subscription if name == SUBSCRIPTION else name, *rest)

    def publish(self, data: bytes, **attributes: str) -> None:
        """Publish a message, whatever it holds."""
        pubsub.publish_messages([(self.topic, data, attributes)])


@pytest.fixture
def feed(prepared: str, monkeypatch: pytest.MonkeyPatch) -> Feed:
    return Feed(monkeypatch)


def test_scans_are_gathered_for_a_bounded_time_however_steadily_they_come(feed: Feed) -> None:
    event, stop = scan_accepted(), threading.Event()

    def trickle() -> None:
        while not stop.wait(0.2):
            feed.publish(event.to_json(), event=event.TOPIC)

    pulled: list = []
    feeder = threading.Thread(target=trickle, daemon=True)
    drain = threading.Thread(target=lambda: pulled.extend(pubsub.pull(SUBSCRIPTION, 50_000, 2)), daemon=True)
    feeder.start()
    drain.start()
    try:
        wait_until(lambda: not drain.is_alive(), within_s=60)  # while the feeder still feeds
    finally:
        stop.set()
    assert pulled


def test_foreign_message_is_set_aside_and_stops_nobody(
    feed: Feed, start_preprocessing: FlaskClient, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataproc, "submit", lambda _: False)
    dead = pubsub.pull("preprocessing-dead-letter", 1000, 1)
    pubsub.acknowledge("preprocessing-dead-letter", dead)
    events = [scan_accepted(scan_id=f"{number:064x}") for number in range(5)]
    for event in events:
        feed.publish(event.to_json(), event=event.TOPIC)
    feed.publish(b"lunch", event="lunch-served")
    feed.publish(json.dumps({"scan_id": "c" * 64}).encode(), event="scan-accepted")  # of no version of ours
    feed.publish(b"\xff\xfe", event="scan-accepted")
    assert start_preprocessing.post("/?fewest=1").json["scans"] == 5
    assert pubsub.pull(SUBSCRIPTION, 10, 1) == []
    aside = pubsub.pull("preprocessing-dead-letter", 1000, 1)
    foreign = [b"lunch", b'{"scan_id": "' + b"c" * 64 + b'"}', b"\xff\xfe"]
    assert sorted(each.data for each in aside) == sorted(foreign)
    assert all(each.attributes["reason"].startswith("no scan") for each in aside)
    pubsub.acknowledge("preprocessing-dead-letter", aside)


def test_few_scans_wait_for_others_but_no_longer_than_a_day(
    feed: Feed, start_preprocessing: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataproc, "submit", lambda _: False)
    event = scan_accepted(scan_id="d" * 64)
    feed.publish(event.to_json(), event=event.TOPIC)
    assert start_preprocessing.post("/").json["scans"] == 0
    ours = sys.modules["main"]  # the Functions Framework's name for the module that it loaded last
    assert hasattr(ours, "start_preprocessing")
    monkeypatch.setattr(ours, "seconds_since", lambda _: 86_401.0)
    assert start_preprocessing.post("/").json["scans"] == 1
