"""Pub/Sub: events published, pushes parsed, a pull subscription drained."""

import base64
from collections.abc import Iterable
from functools import cache
from typing import Any

from google.cloud import pubsub_v1

from shared import config
from shared.events import ScanAccepted, ScanRejected


@cache
def _publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient()


def publish(events: Iterable[ScanAccepted | ScanRejected]) -> None:
    """Publish events on their topics, together; returns once Pub/Sub has stored every one, raises if it has not."""
    pending = [
        _publisher().publish(_publisher().topic_path(config.project(), event.TOPIC), event.to_json(), event=event.TOPIC)
        for event in events
    ]
    for future in pending:
        future.result()


def pushed_data(cloud_event: Any) -> bytes:  # noqa: ANN401 - the Functions Framework's own, untyped
    """Data of the message that a push subscription delivered."""
    return base64.b64decode(cloud_event.data["message"]["data"])


def pushed_event(cloud_event: Any) -> ScanAccepted | ScanRejected:  # noqa: ANN401
    """The event that a push subscription delivered. Raises KeyError for one that is none of ours."""
    kind = {event.TOPIC: event for event in (ScanAccepted, ScanRejected)}
    return kind[cloud_event.data["message"]["attributes"]["event"]].from_json(pushed_data(cloud_event))
