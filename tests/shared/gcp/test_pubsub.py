"""Many messages of several topics arrive in their order, in as many requests as they need."""

import uuid

from google.cloud import pubsub_v1

from local.stack.system import PROJECT, Stack
from shared.gcp import pubsub


def topic(stack: Stack) -> str:
    """Make a topic with a subscription of the same name; return it."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    pubsub_v1.PublisherClient().create_topic(name=pubsub.topic_path(name))
    with pubsub_v1.SubscriberClient() as subscriber:
        path = subscriber.subscription_path(PROJECT, name)
        subscriber.create_subscription(name=path, topic=pubsub.topic_path(name))
    return name


def test_more_messages_than_a_request_may_hold_are_published_in_their_order(stack: Stack) -> None:
    first, second = topic(stack), topic(stack)
    messages = [(first, b"%d" % number, {"number": str(number)}) for number in range(1500)]
    assert pubsub.publish_messages([*messages, (second, b"last", {})]) == 1501
    pulled = pubsub.pull(first, 1500)
    assert [(each.data, each.attributes["number"]) for each in pulled] == [
        (b"%d" % number, str(number)) for number in range(1500)
    ]
    assert [each.data for each in pubsub.pull(second, 1)] == [b"last"]


def test_more_bytes_than_a_request_may_hold_are_published(stack: Stack) -> None:
    name = topic(stack)
    large = bytes(3_000_000)
    assert pubsub.publish_messages((name, large, {"number": str(number)}) for number in range(8)) == 8
    assert sorted(each.attributes["number"] for each in pubsub.pull(name, 8)) == list("01234567")


def test_nothing_is_published_of_nothing(stack: Stack) -> None:
    assert pubsub.publish_messages([]) == 0
