"""Pub/Sub: events published, a pull subscription drained.

Topics and subscriptions go by their plain names here and everywhere: only the two paths have the environment's prefix.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import batched, groupby
from operator import itemgetter

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import pubsub_v1  # type: ignore[attr-defined] # ships no types
from google.pubsub_v1 import PublisherClient

from shared import config
from shared.events import Event

_PULL_MESSAGES = 1000
"""Of one request, which is Pub/Sub's own limit."""
_PULL_S = 10
"""An empty subscription is waited for this long."""
_PUBLISHED_WITHIN_S = 30
"""The client's own patience is ten minutes; the caller's message is delivered again long before."""
_PUBLISH_MESSAGES, _PUBLISH_BYTES = 1000, 5 << 20
"""Of one request; Pub/Sub's own limits are 1,000 and 10 MB."""
_PUBLISH_RETRY = Retry(
    initial=0.1,
    multiplier=4,
    timeout=_PUBLISHED_WITHIN_S,
    predicate=if_exception_type(
        exceptions.Aborted,
        exceptions.Cancelled,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
        exceptions.Unknown,
    ),
)
"""What the client itself tries again, but not for as long."""

type Message = tuple[str, bytes, Mapping[str, str]]
"""Topic, data and attributes."""


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


def publish_messages(messages: Iterable[Message]) -> int:
    """Publish messages together and return how many; return once Pub/Sub has stored every one.

    Callers wait for that anyway, so requests go out at once: the client's own `publish` first gathers for 10 ms and
    starts two threads. Raises GoogleAPIError.
    """
    published = 0
    for topic, request in _requests(messages):
        made = [pubsub_v1.types.PubsubMessage(data=data, attributes=attributes) for _, data, attributes in request]
        path = topic_path(topic)
        PublisherClient.publish(  # the one that `_publisher()`'s class puts its gathering before
            _publisher(), topic=path, messages=made, retry=_PUBLISH_RETRY, timeout=_PUBLISHED_WITHIN_S
        )
        published += len(made)
    return published


def _requests(messages: Iterable[Message]) -> Iterator[tuple[str, list[Message]]]:
    """Messages in their order, as many of one topic together as one request may hold."""
    for topic, of_topic in groupby(messages, key=itemgetter(0)):
        request: list[Message] = []
        size = 0
        for message in of_topic:
            size += len(message[1])
            if request and (len(request) == _PUBLISH_MESSAGES or size > _PUBLISH_BYTES):
                yield topic, request
                request, size = [], len(message[1])
            request.append(message)
        yield topic, request


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
    except exceptions.DeadlineExceeded:
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
