"""Pub/Sub: events handled as they arrive on a pull subscription, by a service that nothing can push to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.cloud import pubsub_v1  # type: ignore[attr-defined] # ships no types
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]

from shared.events import Event, event_of
from shared.gcp.pubsub import subscription_path

_LEASE_S = 10
"""Seconds for which a message is taken, and taken again while it is handled: a killed process's is delivered so soon.

The client takes the first lease for a minute otherwise, and further ones for these ten seconds.
"""


@contextmanager
def listening(subscription: str, handle: Callable[[Event], None], at_a_time: int = 1) -> Iterator[None]:
    """Call `handle` for every event until left: acknowledged when it returns, delivered again when it raises."""
    with pubsub_v1.SubscriberClient() as client:
        streaming = client.subscribe(
            subscription_path(subscription),
            callback=lambda message: _settle(message, handle),
            flow_control=pubsub_v1.types.FlowControl(max_messages=at_a_time, max_duration_per_lease_extension=_LEASE_S),
        )
        try:
            yield
        finally:
            streaming.cancel()
            if not streaming.done():  # it is done, with the error, since the first message that was not handled
                streaming.result()


def _settle(message: Message, handle: Callable[[Event], None]) -> None:
    handled = False
    try:
        handle(event_of(message.attributes, message.data))
        handled = True
    finally:
        message.ack() if handled else message.nack()
