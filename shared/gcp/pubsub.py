"""Pub/Sub: events published, a pull subscription drained.

Topics and subscriptions go by their plain names here and everywhere: only the two paths have the environment's prefix.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import batched

from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1  # type: ignore[attr-defined] # ships no types

from shared import config
from shared.events import Event

_PULL_MESSAGES = 1000
"""Of one request, which is Pub/Sub's own limit."""
_PULL_S = 10
"""An empty subscription is waited for this long."""
_PUBLISHED_WITHIN_S = 30
"""The client's own patience is ten minutes; the caller's message is delivered again long before."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A message from a pull subscription, delivered again unless acknowledged in time."""

    data: bytes
    attributes: Mapping[str, str]
    ack_id: str
    published_at: str
    attempts: int
    """How often it was delivered, this time included; 1 if the subscription does not count."""


def topic_path(topic: str) -> str:
    """Return the full name of a topic of this environment."""
    return str(pubsub_v1.PublisherClient.topic_path(config.project(), config.name_prefix() + topic))


def subscription_path(subscription: str) -> str:
    """Return the full name of a subscription of this environment."""
    return str(pubsub_v1.SubscriberClient.subscription_path(config.project(), config.name_prefix() + subscription))


@cache
def _publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient()


def publish(events: Iterable[Event]) -> None:
    """Publish events on their topics, together; return once Pub/Sub has stored every one, raise if it has not."""
    publish_messages((event.TOPIC, event.to_json(), {"event": event.TOPIC}) for event in events)


def publish_messages(messages: Iterable[tuple[str, bytes, Mapping[str, str]]]) -> int:
    """Publish (topic, data, attributes) together and return how many; return once Pub/Sub has stored every one."""
    pending = [_publisher().publish(topic_path(topic), data, **attributes) for topic, data, attributes in messages]
    for future in pending:
        future.result(_PUBLISHED_WITHIN_S)
    return len(pending)


def pull(subscription: str, limit: int, within_s: float = 60) -> list[Pulled]:
    """Return messages of a pull subscription: until it is empty, `limit` are there or the time is over."""
    until = time.monotonic() + within_s
    pulled: list[Pulled] = []
    while len(pulled) < limit and time.monotonic() < until:
        received = _pull(subscription, min(limit - len(pulled), _PULL_MESSAGES))
        if not received:
            break
        pulled += map(_pulled, received)
    return pulled


def acknowledge(subscription: str, pulled: Iterable[Pulled]) -> None:
    """Say that these are dealt with, so that they do not come again."""
    path = subscription_path(subscription)
    for group in batched(pulled, _PULL_MESSAGES, strict=False):
        _subscriber().acknowledge(subscription=path, ack_ids=[each.ack_id for each in group])


def release(subscription: str, pulled: Iterable[Pulled]) -> None:
    """Give these back at once, for the next pull."""
    path = subscription_path(subscription)
    for group in batched(pulled, _PULL_MESSAGES, strict=False):
        ack_ids = [each.ack_id for each in group]
        _subscriber().modify_ack_deadline(subscription=path, ack_ids=ack_ids, ack_deadline_seconds=0)


@cache
def _subscriber() -> pubsub_v1.SubscriberClient:
    return pubsub_v1.SubscriberClient()


def _pull(subscription: str, limit: int) -> Iterable[pubsub_v1.types.ReceivedMessage]:
    path = subscription_path(subscription)
    try:
        answer = _subscriber().pull(subscription=path, max_messages=limit, timeout=_PULL_S)
    except DeadlineExceeded:
        return []
    return list(answer.received_messages)


def _pulled(received: pubsub_v1.types.ReceivedMessage) -> Pulled:
    message = received.message
    return Pulled(
        message.data,
        dict(message.attributes),
        received.ack_id,
        message.publish_time.isoformat(),
        received.delivery_attempt or 1,
    )
