"""The whole system, running: what is uploaded ends where it should, once, whatever happens."""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from google.cloud import pubsub_v1
from rich.console import Console

from local import demo
from local.demo import Outcome, Upload
from local.samples import dicom, encode, healthy_slices, lesion_slices, multi_page_tiff, sixteen_bit_tiff
from local.stack.provision import dead_letter_topic
from local.stack.system import BUCKETS, PROJECT, Stack
from local.stack.terraform_config import declared
from shared.errors import Reason
from shared.gcp import bigquery, storage
from shared.labels import Label
from shared.scan import file_id
from tests.functions.test_record_dead_letter import given_up_by
from tests.support.waiting import wait_until

QUIET = Console(quiet=True)


def recorded() -> set[str]:
    """Return the ids of the dead-letter messages that the dashboard would show."""
    return {row["dead_letter_id"] for row in bigquery.query("SELECT dead_letter_id FROM {dataset}.dead_letters")}


@pytest.fixture(scope="module", autouse=True)
def recorded_before(stack: Stack) -> set[str]:
    """What other tests of the same system had written by hand before these began."""
    return recorded()


def upload(kind: str, content: bytes, expected: int | Reason, label: Label = Label.CANCER) -> Upload:
    return Upload(kind, f"{label}/{file_id(content)}", label, content, expected)


def every_format() -> list[Upload]:
    """Seventy-odd scans: each slice in a format of its own kind, and files of several pages."""
    encoders = itertools.cycle(
        [
            lambda pixels: encode(pixels, "JPEG"),
            lambda pixels: encode(pixels, "PNG"),
            lambda pixels: encode(pixels, "BMP"),
            lambda pixels: encode(pixels, "TIFF"),
            lambda pixels: encode(pixels.astype(np.float32) / 7, "TIFF"),
            lambda pixels: encode(np.stack([pixels] * 3, axis=-1), "PNG"),
            sixteen_bit_tiff,
            dicom,
        ]
    )
    slices = [np.rot90(pixels, 2).copy() for pixels in healthy_slices() + lesion_slices()]  # unlike the samples
    single = [upload("slice", encoder(pixels), 1) for pixels, encoder in zip(slices, encoders, strict=False)]
    several = [upload("pages", multi_page_tiff(slices[start : start + 5]), 5) for start in range(0, 25, 5)]
    return single + several


def ended(uploads: Sequence[Upload]) -> list[Outcome]:
    """Upload files and wait until each has ended as it should."""
    outcomes = demo.run(uploads, QUIET)
    assert [(o.upload.name, o.upload.expected, o.reason, len(o.scans)) for o in outcomes if not o.is_expected] == []
    return outcomes


def rows(view: str, scan_ids: Sequence[str]) -> list[dict]:
    found = bigquery.query(f"SELECT * FROM {{dataset}}.{view} WHERE scan_id IN UNNEST(@ids)", ids=list(scan_ids))
    return sorted(found, key=lambda row: (row["scan_id"], row.get("label", "")))


def dead_letters() -> int:
    with pubsub_v1.SubscriberClient() as subscriber:
        paths = [subscriber.subscription_path(PROJECT, dead_letter_topic(step)) for step in declared()["steps"]]
        pulls = [subscriber.pull(subscription=path, max_messages=10, return_immediately=True) for path in paths]
    return sum(len(pull.received_messages) for pull in pulls)


def test_samples_end_where_they_should(stack: Stack) -> None:
    ended(demo.sample_uploads())


def test_scans_in_every_format_are_recorded_predicted_and_have_features(stack: Stack) -> None:
    outcomes = ended(every_format())
    ids = [row["scan_id"] for outcome in outcomes for row in outcome.scans]
    assert len(ids) >= 60
    assert len(set(ids)) == len(ids)
    for row in rows("predictions", ids):
        assert 0 <= row["probability"] <= 1
    assert {row["format"] for row in rows("scans", ids)} == {"JPEG", "PNG", "BMP", "TIFF", "DICOM"}


def test_uploads_published_again_and_out_of_order_give_the_same_rows(stack: Stack) -> None:
    uploads = every_format()[::9]
    ids = [row["scan_id"] for outcome in ended(uploads) for row in outcome.scans]
    tables = ("scans", "predictions", "features")
    before = {table: rows(table, ids) for table in tables}
    bucket = storage.client().bucket(BUCKETS["uploads"])
    notifications = [json.dumps(bucket.get_blob(item.object_name)._properties).encode() for item in uploads]
    with accepted_events() as pulled:
        publisher = pubsub_v1.PublisherClient()
        topic = publisher.topic_path(PROJECT, "scan-uploaded")
        for data in notifications[::-1] + notifications:
            publisher.publish(topic, data, eventType="OBJECT_FINALIZE").result()
        wait_until(lambda: pulled() >= 2 * len(ids))
    ended([upload("behind the duplicates", encode(healthy_slices()[7], "PNG"), 1, Label.UNLABELLED)])
    volatile = {"recorded_at", "accepted_at", "predicted_at"}
    for table in tables:
        after = [{k: v for k, v in row.items() if k not in volatile} for row in rows(table, ids)]
        assert after == [{k: v for k, v in row.items() if k not in volatile} for row in before[table]]


@contextmanager
def accepted_events() -> Iterator[Callable[[], int]]:
    """A subscription of our own on scan-accepted; answers how many events have come so far."""
    with pubsub_v1.SubscriberClient() as subscriber:
        path = subscriber.subscription_path(PROJECT, f"test-{uuid.uuid4().hex[:8]}")
        subscriber.create_subscription(name=path, topic=subscriber.topic_path(PROJECT, "scan-accepted"))
        seen = [0]

        def pulled() -> int:
            received = subscriber.pull(subscription=path, max_messages=100, return_immediately=True).received_messages
            if received:
                subscriber.acknowledge(subscription=path, ack_ids=[item.ack_id for item in received])
            seen[0] += len(received)
            return seen[0]

        yield pulled
        subscriber.delete_subscription(subscription=path)


def test_every_malformed_file_is_quarantined_at_once_and_nothing_falls_over(stack: Stack, data: Path) -> None:
    files = sorted(path for path in (data / "malformed").rglob("*") if path.is_file())
    restarts = stack.supervisor.restarts.copy()
    uploads = [Upload("malformed", f"Unlabelled/malformed/{n}", Label.UNLABELLED, path) for n, path in enumerate(files)]
    outcomes = demo.run(uploads, QUIET)
    assert [outcome.file_id for outcome in outcomes if outcome.reason not in set(Reason)] == []
    quarantined = {Path(blob.name).stem for blob in storage.objects(BUCKETS["quarantine"], "Unlabelled/")}
    assert {outcome.file_id for outcome in outcomes} <= quarantined
    assert stack.supervisor.restarts == restarts
    sql = "SELECT COUNT(*) AS n FROM {dataset}.rejections_raw WHERE file_id IN UNNEST(@ids)"
    once = bigquery.query(sql, ids=[outcome.file_id for outcome in outcomes])[0]["n"]
    assert once <= len(files), "a rejected file was delivered again"
    assert dead_letters() == 0


def test_every_real_dicom_file_is_accepted(stack: Stack, data: Path) -> None:
    files = sorted((data / "dicom").rglob("*.dcm"))
    outcomes = demo.run([Upload("DICOM", f"Unlabelled/{path.name}", Label.UNLABELLED, path) for path in files], QUIET)
    assert len(outcomes) == len(files) >= 22
    assert all(outcome.is_complete and outcome.scans for outcome in outcomes)


def test_killed_processes_start_again_and_no_scan_is_lost(stack: Stack) -> None:
    doomed = ("validate_scan", "score_scan", "pubsub")
    before = {name: stack.supervisor.restarts[name] for name in doomed}
    for name in doomed:
        stack.supervisor.processes()[name].kill()
    pixels = [np.fliplr(image).copy() for image in healthy_slices()[:8]]
    wait_until(lambda: all(stack.supervisor.restarts[name] > before[name] for name in doomed))
    wait_until(stack.services["pubsub"].is_ready)
    ended([upload("after the kill", encode(image, "PNG"), 1) for image in pixels])


def test_nothing_was_dead_lettered(recorded_before: set[str]) -> None:
    assert dead_letters() == 0
    assert recorded() == recorded_before


def test_a_message_that_exhausted_its_retries_is_kept_and_recorded(stack: Stack) -> None:
    event = {"scan_id": uuid.uuid4().hex * 2}
    publisher = pubsub_v1.PublisherClient()
    topic = publisher.topic_path(PROJECT, dead_letter_topic("score_scan"))
    publisher.publish(topic, json.dumps(event).encode(), **given_up_by("score-scan-on-scan-accepted")).result()
    wait_until(lambda: len(rows("dead_letters", [event["scan_id"]])) == 1)
    with pubsub_v1.SubscriberClient() as subscriber:
        path = subscriber.subscription_path(PROJECT, dead_letter_topic("score_scan"))
        (kept,) = subscriber.pull(subscription=path, max_messages=10, return_immediately=True).received_messages
        subscriber.acknowledge(subscription=path, ack_ids=[kept.ack_id])
    assert json.loads(kept.message.data) == event
