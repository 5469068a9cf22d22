"""Two environments in one project: what carries a prefix never meets what carries none."""

import uuid
from collections.abc import Iterator

import pytest
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import PubsubMessage

from local.stack.system import PROJECT, Stack
from shared.events import DeadLetter, ScanAccepted, event_of
from shared.gcp import bigquery, pubsub
from shared.gcp.replay import replay
from shared.gcp.subscriptions import listening
from tests.functions.conftest import Push, push
from tests.support.datasets import own_dataset
from tests.support.events import scan_accepted
from tests.support.waiting import wait_until

ATTEMPTS = 5
STEP = "our_step"
NAMES = ("our-topic", "our-step-on-our-topic", "our-step-dead-letter", "our-step-replay")


@pytest.fixture(scope="module", autouse=True)
def dataset(stack: Stack) -> Iterator[None]:
    """A dataset of our own."""
    with own_dataset(["replays", "dead_letters"]):
        yield


@pytest.fixture
def prefixed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A step with a prefix of its own and the same step without, in one project. Return the prefix."""
    prefix = f"d{uuid.uuid4().hex[:6]}-"
    provision()
    monkeypatch.setenv("NAME_PREFIX", prefix)
    provision()
    return prefix


def provision() -> None:
    """Make the step's topics and subscriptions, as Terraform names them for the environment's prefix."""
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    existing = {topic.name for topic in publisher.list_topics(project=f"projects/{PROJECT}")}
    if pubsub.topic_path("our-topic") in existing:
        return
    for topic in ("our-topic", "our-step-dead-letter", "our-step-replay"):
        publisher.create_topic(name=pubsub.topic_path(topic))
    dead_letters = {"dead_letter_topic": pubsub.topic_path("our-step-dead-letter"), "max_delivery_attempts": ATTEMPTS}
    with subscriber:
        for topic in ("our-step-dead-letter", "our-step-replay"):
            path, source = pubsub.subscription_path(topic), pubsub.topic_path(topic)
            subscriber.create_subscription(name=path, topic=source)
        own = {"name": pubsub.subscription_path("our-step-on-our-topic"), "topic": pubsub.topic_path("our-topic")}
        subscriber.create_subscription(request=own | {"dead_letter_policy": dead_letters})


def exhausted() -> None:
    """Publish a scan and refuse it as often as its subscription allows."""
    pubsub.publish_messages([("our-topic", scan_accepted().to_json(), {"event": ScanAccepted.TOPIC})])
    for _ in range(ATTEMPTS):
        pubsub.release("our-step-on-our-topic", pubsub.pull("our-step-on-our-topic", 1))


def waiting(subscription: str) -> list[PubsubMessage]:
    """Return what lies in a subscription now, and leave it there."""
    path = pubsub.subscription_path(subscription)
    with pubsub_v1.SubscriberClient() as subscriber:
        received = subscriber.pull(subscription=path, max_messages=10, return_immediately=True).received_messages
        if ids := [each.ack_id for each in received]:
            subscriber.modify_ack_deadline(subscription=path, ack_ids=ids, ack_deadline_seconds=0)
    return [each.message for each in received]


def test_a_prefixed_step_publishes_dead_letters_and_replays_within_its_environment(prefixed: str) -> None:
    exhausted()
    (letter,) = waiting("our-step-dead-letter")
    assert letter.attributes["CloudPubSubDeadLetterSourceSubscription"] == f"{prefixed}our-step-on-our-topic"
    done = replay(STEP, reason="mended")
    assert (done.found, done.replayed, done.set_aside) == (1, 1, 0)
    (again,) = waiting("our-step-replay")
    assert event_of(again.attributes, again.data) == scan_accepted()
    (row,) = bigquery.query("SELECT * FROM {dataset}.replays")
    assert row["step"] == STEP
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NAME_PREFIX")
        assert [waiting(name) for name in NAMES if name != "our-topic"] == [[], [], []]


def test_what_comes_back_from_pubsub_loses_its_prefix(prefixed: str) -> None:
    exhausted()
    (letter,) = waiting("our-step-dead-letter")
    message = DeadLetter.from_message(letter.data, letter.attributes, letter.publish_time.isoformat())
    assert (message.subscription, message.attempts) == ("our-step-on-our-topic", ATTEMPTS)


def test_a_prefixed_dead_letter_of_the_way_to_a_score_counts_in_the_objective(
    prefixed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """record_dead_letter looks at what the subscription's name begins with."""
    record_dead_letter: Push = push("record_dead_letter")
    source = {"Subscription": f"{prefixed}score-scan-on-scan-accepted", "DeliveryCount": "20"}
    source |= {"TopicPublishTime": "2026-01-01T00:00:00Z"}
    attributes = {f"CloudPubSubDeadLetterSource{name}": text for name, text in source.items()}
    with caplog.at_level("WARNING"):
        assert record_dead_letter({"scan_id": "e" * 64}, **attributes) == 200
    assert [record.scan_id for record in caplog.records if record.message == "never scored"] == ["e" * 64]
    (row,) = bigquery.query("SELECT * FROM {dataset}.dead_letters")
    assert row["subscription"] == "score-scan-on-scan-accepted"


def test_a_prefixed_service_listens_to_its_own_environment(prefixed: str) -> None:
    heard = []
    with listening("our-step-on-our-topic", heard.append):
        pubsub.publish_messages([("our-topic", scan_accepted().to_json(), {"event": ScanAccepted.TOPIC})])
        wait_until(lambda: heard)
    assert heard == [scan_accepted()]
