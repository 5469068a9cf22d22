"""reconcile: what was never announced, or left no row, is announced again, to the step that it is about alone."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from flask.testing import FlaskClient
from google.cloud import pubsub_v1

from local.samples import encode, healthy_slices
from local.stack.system import PROJECT
from shared.clock import now
from shared.events import ScanAccepted, ScanUploaded
from shared.gcp import bigquery, pubsub, storage
from tests.functions.conftest import Cloud, _subscribe, client, push
from tests.support.events import stored_scan

TOPICS = ("scan-uploaded", "score-scan-replay")


@pytest.fixture(scope="module")
def heard(cloud: Cloud) -> Iterator[dict[str, str]]:
    """Subscriptions of our own to what reconcile may publish."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pubsub, "publish_messages", only_ours(cloud))
        yield {topic: f"test-{cloud.buckets['uploads']}-{topic}" for topic in TOPICS}


def only_ours(cloud: Cloud):
    """Publish on topics of our own, so that the running system does not take part."""
    publisher = pubsub_v1.PublisherClient()
    publish = pubsub.publish_messages
    for topic in TOPICS:
        publisher.create_topic(name=publisher.topic_path(PROJECT, f"ours-{cloud.buckets['uploads']}-{topic}"))
        _subscribe(f"ours-{cloud.buckets['uploads']}-{topic}", cloud.buckets["uploads"])

    def ours(topic: str) -> str:
        return f"ours-{cloud.buckets['uploads']}-{topic}" if topic in TOPICS else topic

    def instead(messages):
        return publish((ours(topic), data, more) for topic, data, more in messages)

    return instead


def announced(cloud: Cloud, topic: str) -> list[dict]:
    """What was announced on a topic since the last call."""
    mark = cloud.buckets["uploads"]
    pulled = pubsub.pull(f"test-{mark}-ours-{mark}-{topic}", 100, 1)
    pubsub.acknowledge(f"test-{mark}-ours-{mark}-{topic}", pulled)
    return [json.loads(each.data) for each in pulled]


@pytest.fixture(scope="module")
def reconcile(cloud: Cloud, heard: dict[str, str]) -> FlaskClient:
    return client("reconcile", "http")


def test_upload_that_was_never_announced_is_announced_as_cloud_storage_does(
    cloud: Cloud, reconcile: FlaskClient
) -> None:
    expected = cloud.upload("Cancer/Jane Doe.png", encode(healthy_slices()[7], "PNG"), {"source": "ward-3"})
    assert reconcile.post("/").json["uploads"] == 0  # still within its grace
    assert reconcile.post("/?grace_s=0").json["uploads"] == 1
    (notification,) = announced(cloud, "scan-uploaded")
    assert ScanUploaded.from_notification(notification) == ScanUploaded.from_notification(expected)
    assert push("validate_scan")(notification) == 200
    (event,) = cloud.pull("scan-accepted")
    assert push("record_scan")(asdict(ScanAccepted(**event)), event=ScanAccepted.TOPIC) == 200
    assert reconcile.post("/?grace_s=0").json["uploads"] == 0


def test_upload_that_fails_again_and_again_is_left_to_a_person(cloud: Cloud, reconcile: FlaskClient) -> None:
    upload = cloud.upload("Cancer/poison", b"kills whoever reads it")
    generation = int(upload["generation"])
    for number in range(3):
        row = {
            "dead_letter_id": f"poison-{number}",
            "subscription": "validate-scan-on-scan-uploaded",
            "attempts": 20,
            "scan_id": None,
            "generation": generation,
            "published_at": now(),
            "exhausted_at": now(),
            "reason": None,
        }
        bigquery.append("dead_letters", row, key=row["dead_letter_id"])
    assert reconcile.post("/?grace_s=0").json["uploads"] == 0
    storage.client().bucket(cloud.buckets["uploads"]).blob("Cancer/poison").delete()


def test_scan_without_prediction_or_features_goes_to_score_scan_alone(cloud: Cloud, reconcile: FlaskClient) -> None:
    reconcile.post("/?grace_s=0")
    announced(cloud, "score-scan-replay")
    event = stored_scan(cloud.buckets["scans"], encode(healthy_slices()[8], "PNG"), generation=5, slice_position_mm=1.5)
    assert push("record_scan")(asdict(event), event=event.TOPIC) == 200
    row = {
        "scan_id": event.scan_id,
        "model_version": "1",
        "prediction": "Cancer",
        "probability": 0.9,
        "threshold": 0.5,
        "uploaded_at": event.uploaded_at,
        "predicted_at": now(),
    }
    bigquery.append("predictions", row, key=event.scan_id)
    assert reconcile.post("/?grace_s=0").json["scans"] >= 1
    assert event in [ScanAccepted(**fields) for fields in announced(cloud, "score-scan-replay")]
    statistics = dict.fromkeys(("mean", "std", "skewness", "kurtosis"), 0.0)
    lists = {"standardised_quantiles": [0.0], "embedding": [0.0], "principal_components": []}
    ids = {"scan_id": event.scan_id, "feature_version": "1", "label": "Cancer", "source": "test"}
    bigquery.append("features", ids | statistics | lists, key=event.scan_id)
    reconcile.post("/?grace_s=0")
    assert event.scan_id not in {fields["scan_id"] for fields in announced(cloud, "score-scan-replay")}
