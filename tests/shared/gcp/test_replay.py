"""Dead-letter messages go back to their own step, once, with their attributes; poisonous ones stay and say why."""

import json
import uuid
from collections.abc import Iterator

import pytest
from google.cloud import pubsub_v1

from local.stack.system import PROJECT, Stack
from shared.events import set_aside
from shared.gcp import bigquery, pubsub
from shared.gcp.replay import replay
from tests.support.datasets import own_dataset
from tests.support.events import scan_accepted


@pytest.fixture(scope="module", autouse=True)
def dataset(stack: Stack) -> Iterator[None]:
    """A dataset of our own."""
    with own_dataset(["replays", "dead_letters"]):
        yield


@pytest.fixture
def step(stack: Stack) -> Iterator[str]:
    """A step of our own, with its topics and subscriptions."""
    mark = uuid.uuid4().hex[:8]
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    for name in (f"our-step-{mark}-dead-letter", f"our-step-{mark}-replay"):
        publisher.create_topic(name=publisher.topic_path(PROJECT, name))
        path = subscriber.subscription_path(PROJECT, name)
        subscriber.create_subscription(name=path, topic=publisher.topic_path(PROJECT, name))
    yield f"our_step_{mark}"


def dead_letter(step: str, data: bytes, published_at: str = "2026-01-01T00:00:00Z", **attributes: str) -> None:
    """Put a message where it goes after its last attempt."""
    dashed = step.replace("_", "-")
    more = set_aside(f"{dashed}-on-scan-accepted", published_at, 20, "")
    del more["reason"]
    pubsub.publish_messages([(f"{dashed}-dead-letter", data, attributes | more)])


def queued(step: str, kind: str) -> list[pubsub.Pulled]:
    """Messages that lie in a subscription of the step."""
    subscription = f"{step.replace('_', '-')}-{kind}"
    pulled = pubsub.pull(subscription, 100, 1)
    pubsub.release(subscription, pulled)
    return pulled


def recorded(step: str) -> list[dict]:
    """Rows of the step's replays."""
    return bigquery.query("SELECT * FROM {dataset}.replays WHERE step = @step", step=step)


def test_message_goes_back_to_its_step_with_its_attributes(step: str) -> None:
    event = scan_accepted()
    dead_letter(step, event.to_json(), event=event.TOPIC)
    done = replay(step, reason="a faulty release")
    assert (done.found, done.replayed, done.set_aside) == (1, 1, 0)
    (message,) = queued(step, "replay")
    assert message.data == event.to_json()
    assert message.attributes == {"event": event.TOPIC, "replays": "1"}
    assert queued(step, "dead-letter") == []
    (row,) = recorded(step)
    assert (row["step"], row["reason"], row["replayed"]) == (step, "a faulty release", 1)


def test_dry_run_moves_nothing_and_records_nothing(step: str) -> None:
    dead_letter(step, scan_accepted().to_json(), event="scan-accepted")
    assert replay(step, dry=True).replayed == 1
    assert queued(step, "replay") == []
    assert len(queued(step, "dead-letter")) == 1
    assert recorded(step) == []


def test_only_messages_since_then_are_replayed(step: str) -> None:
    for day, scan_id in (("01", "a" * 64), ("09", "b" * 64)):
        data = scan_accepted(scan_id=scan_id).to_json()
        dead_letter(step, data, published_at=f"2026-01-{day}T00:00:00Z", event="scan-accepted")
    done = replay(step, since="2026-01-05T00:00:00+00:00")
    assert (done.found, done.replayed) == (2, 1)
    (message,) = queued(step, "replay")
    assert json.loads(message.data)["scan_id"] == "b" * 64
    assert len(queued(step, "dead-letter")) == 1


def test_foreign_and_poisonous_messages_stay_and_say_why(step: str) -> None:
    dead_letter(step, b"lunch", event="lunch-served")
    dead_letter(step, scan_accepted(scan_id="d" * 64).to_json(), event="scan-accepted", replays="3")
    done = replay(step)
    assert (done.replayed, done.set_aside) == (0, 2)
    assert queued(step, "replay") == []
    assert len(queued(step, "dead-letter")) == 2
    sql = "SELECT reason FROM {dataset}.dead_letters WHERE STARTS_WITH(subscription, @step)"
    reasons = {row["reason"] for row in bigquery.query(sql, step=step.replace("_", "-"))}
    assert reasons == {"not a message of this step: KeyError", "replayed 3 times"}
