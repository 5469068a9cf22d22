"""Pub/Sub: events published, a pull subscription drained."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import batched

from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

from shared import config
from shared.events import Event, event_of

_PULL_MESSAGES = 1000
"""Of one request, which is Pub/Sub's own limit."""
_PULL_S = 10
"""An empty subscription is waited for this long."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """An event from a pull subscription, delivered again unless acknowledged in time."""

    event: Event
    ack_id: str


@cache
def _publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient()


def publish(events: Iterable[Event]) -> None:
    """Publish events on their topics, together; returns once Pub/Sub has stored every one, raises if it has not."""
    pending = [
        _publisher().publish(_publisher().topic_path(config.project(), event.TOPIC), event.to_json(), event=event.TOPIC)
        for event in events
    ]
    for future in pending:
        future.result()


def pull(subscription: str, limit: int) -> list[Pulled]:
    """Events of a pull subscription until it is empty or `limit` are there. Raises KeyError for one not of ours."""
    pulled: list[Pulled] = []
    while len(pulled) < limit and (received := _pull(subscription, min(limit - len(pulled), _PULL_MESSAGES))):
        pulled += [Pulled(event_of(each.message.attributes, each.message.data), each.ack_id) for each in received]
    return pulled


def acknowledge(subscription: str, pulled: Iterable[Pulled]) -> None:
    """Say that these are dealt with, so that they do not come again."""
    path = _subscriber().subscription_path(config.project(), subscription)
    for group in batched(pulled, _PULL_MESSAGES, strict=False):
        _subscriber().acknowledge(subscription=path, ack_ids=[each.ack_id for each in group])


@cache
def _subscriber() -> pubsub_v1.SubscriberClient:
    return pubsub_v1.SubscriberClient()


def _pull(subscription: str, limit: int) -> Iterable[pubsub_v1.types.ReceivedMessage]:
    path = _subscriber().subscription_path(config.project(), subscription)
    try:
        return _subscriber().pull(subscription=path, max_messages=limit, timeout=_PULL_S).received_messages
    except DeadlineExceeded:
        return []
