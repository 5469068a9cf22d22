"""One subscription of the Pub/Sub stand-in: what it owes, to whom it hands it, and when it tries again."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from local.emulators.pubsub.faults import Faults
from local.emulators.pubsub.filters import parse_filter
from local.emulators.pubsub.messages import Message, Proto
from local.emulators.pubsub.store import Store

_PUSH_BACKOFF = (0.1, 60.0)  # seconds; what Pub/Sub uses for push where the subscription names no retry policy
_LONGEST_DOUBLING = 30
_BATCH_BYTES = 3 << 20  # the official client reads at most 4 MiB a response from an emulator


@dataclass(eq=False, slots=True)
class Delivery:
    """A message owed to one subscription, until it is acknowledged or dead-lettered."""

    message: Proto
    failures: int = 0
    lease: int = 0
    """How often this process has handed it out; an older hand-out may still acknowledge, but no longer fail it."""
    holder: "Consumer | None" = None
    timer: asyncio.TimerHandle | None = None
    """End of the acknowledgement deadline while it is held, of the back-off while it waits."""
    settled: bool = False
    repeated: bool = False
    """Whether it was delivered once more although it had been acknowledged."""

    @property
    def id(self) -> int:
        """The message's id."""
        return int(self.message.message_id)

    @property
    def size(self) -> int:
        """Bytes of the serialised message."""
        return int(self.message.ByteSize())

    @property
    def ack_id(self) -> str:
        """Names this hand-out."""
        return f"{self.message.message_id}:{self.lease}"


class Consumer(Protocol):
    """Whoever takes messages: a push endpoint, a streaming pull or one waiting pull."""

    deadline: float | None
    """Seconds in which a message must be acknowledged; None where the consumer itself reports every failure."""

    def room(self) -> int:
        """How many more messages it takes now."""

    def send(self, deliveries: list[Delivery]) -> None:
        """Take them."""

    def release(self, delivery: Delivery) -> None:
        """Hear that one is no longer held: acknowledged, failed or past its deadline."""

    def end(self) -> None:
        """Take no more: the subscription is gone or delivers otherwise now."""


class Queue:
    """The unacknowledged messages of one subscription and the consumers it spreads them over.

    Nothing polls: a message published, a consumer with room again and a back-off that ends each wake the queue, which
    then runs once at the end of the event loop's turn. With message ordering, a key has one message out at a time.
    """

    def __init__(
        self, resource: Proto, store: Store, faults: Faults, dead_letter: Callable[["Queue", Delivery], bool]
    ) -> None:
        self.deliveries: dict[int, Delivery] = {}
        self._store = store
        self._faults = faults
        self._dead_letter = dead_letter
        self._ready: deque[Delivery] = deque()
        self._behind: dict[str, deque[Delivery]] = {}
        self._consumers: list[Consumer] = []
        self._woken = False
        self.configure(resource)

    def configure(self, resource: Proto) -> None:
        """Take over changed settings."""
        self.resource = resource
        self.name = resource.name
        self.matches = parse_filter(resource.filter)
        self._backoff = _backoff(resource)

    @property
    def attempts_counted(self) -> bool:
        """Whether consumers are told how often a message was delivered."""
        return bool(self.resource.dead_letter_policy.dead_letter_topic)

    def restore(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Take over what an earlier process still owed: failures and serialised message of each."""
        for failures, message in rows:
            self._enqueue(Delivery(Message.FromString(message), failures))

    def add(self, message: Proto, serialised: bytes) -> None:
        """Owe a newly published message, unless the filter rejects it."""
        if not self.matches(message.attributes):
            return
        delivery = Delivery(message)
        self._store.add(self.name, delivery.id, serialised)
        self._enqueue(delivery)

    def attach(self, consumer: Consumer) -> None:
        """Spread messages over this consumer too."""
        self._consumers.append(consumer)
        self.wake()

    def detach(self, consumer: Consumer) -> None:
        """Hand it no more messages; those it holds keep their deadlines."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def close(self) -> None:
        """Owe nothing any more and end every consumer: the subscription is deleted."""
        for delivery in self.deliveries.values():
            if delivery.timer:
                delivery.timer.cancel()
        self.deliveries.clear()
        self._ready.clear()
        for consumer in self._consumers:
            consumer.end()
        self._consumers.clear()

    def wake(self) -> None:
        """Hand out what there is to whoever has room, once this turn of the event loop is over."""
        if not self._woken and self._ready and self._consumers:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def acknowledge(self, ack_id: str) -> None:
        """Owe the message of this hand-out no longer. Late is better than never; an unknown id is ignored."""
        delivery = self._find(ack_id)
        if not delivery or not delivery.lease:
            return
        if not delivery.repeated and delivery.holder and self._faults.forgets_acknowledgement():
            delivery.repeated = True
            self._release(delivery)
            self._make_ready(delivery)
        else:
            self._settle(delivery)

    def modify_deadline(self, ack_id: str, seconds: float) -> None:
        """Give the holder this long from now; 0 is a refusal. Ignored once the hand-out is over."""
        delivery = self._find(ack_id)
        if not delivery or not delivery.holder or delivery.ack_id != ack_id:
            return
        if seconds:
            self._start_timer(delivery, seconds, self.fail)
        else:
            self.fail(delivery)

    def fail(self, delivery: Delivery) -> None:
        """Count a refusal or a missed deadline: try again after the back-off, or dead-letter it in the end."""
        delivery.failures += 1
        self._release(delivery)
        policy = self.resource.dead_letter_policy
        if (
            policy.dead_letter_topic
            and delivery.failures >= policy.max_delivery_attempts
            and self._dead_letter(self, delivery)
        ):
            self._settle(delivery)
            return
        self._store.count_failures(self.name, delivery.id, delivery.failures)
        minimum, maximum = self._backoff
        pause = min(maximum, minimum * 2 ** min(delivery.failures - 1, _LONGEST_DOUBLING))
        self._start_timer(delivery, pause, self._make_ready)

    def lease(self, consumer: Consumer, most: int) -> list[Delivery]:
        """Hand out up to so many of the messages that are ready now, oldest first."""
        batch: list[Delivery] = []
        size = 0
        while self._ready and len(batch) < most and (not batch or size + self._ready[0].size <= _BATCH_BYTES):
            delivery = self._ready.popleft()
            if delivery.settled:  # acknowledged late, by an earlier hand-out
                continue
            delivery.lease += 1
            delivery.holder = consumer
            if consumer.deadline:
                self._start_timer(delivery, consumer.deadline, self.fail)
            batch.append(delivery)
            size += delivery.size
        return batch

    def _hand_out(self) -> None:
        self._woken = False
        takers = [consumer for consumer in self._consumers if consumer.room() > 0]
        for remaining, consumer in zip(range(len(takers), 0, -1), takers, strict=True):
            fair_share = -(-len(self._ready) // remaining)
            if batch := self.lease(consumer, min(fair_share, consumer.room())):
                consumer.send(batch)
                self.wake()

    def _enqueue(self, delivery: Delivery) -> None:
        self.deliveries[delivery.id] = delivery
        key = self._ordering_key(delivery)
        if key and key in self._behind:
            self._behind[key].append(delivery)
            return
        if key:
            self._behind[key] = deque()
        elif pause := self._faults.pause():
            self._start_timer(delivery, pause, self._make_ready)
            return
        self._make_ready(delivery)

    def _make_ready(self, delivery: Delivery) -> None:
        delivery.timer = None
        self._ready.append(delivery)
        self.wake()

    def _settle(self, delivery: Delivery) -> None:
        self._release(delivery)
        delivery.settled = True
        del self.deliveries[delivery.id]
        self._store.settle(self.name, delivery.id)
        if not (key := self._ordering_key(delivery)):
            return
        if behind := self._behind[key]:
            self._make_ready(behind.popleft())
        else:
            del self._behind[key]

    def _release(self, delivery: Delivery) -> None:
        if delivery.timer:
            delivery.timer.cancel()
            delivery.timer = None
        if delivery.holder:
            holder, delivery.holder = delivery.holder, None
            holder.release(delivery)
            self.wake()

    def _start_timer(self, delivery: Delivery, seconds: float, then: Callable[[Delivery], None]) -> None:
        if delivery.timer:
            delivery.timer.cancel()
        delivery.timer = asyncio.get_running_loop().call_later(seconds, then, delivery)

    def _find(self, ack_id: str) -> Delivery | None:
        message_id = ack_id.partition(":")[0]
        return self.deliveries.get(int(message_id)) if message_id.isdecimal() else None

    def _ordering_key(self, delivery: Delivery) -> str:
        return str(delivery.message.ordering_key) if self.resource.enable_message_ordering else ""


def _backoff(resource: Proto) -> tuple[float, float]:
    """Shortest and longest pause before a message is tried again, in seconds."""
    if resource.HasField("retry_policy"):
        policy = resource.retry_policy
        return (
            policy.minimum_backoff.ToTimedelta().total_seconds(),
            policy.maximum_backoff.ToTimedelta().total_seconds(),
        )
    return _PUSH_BACKOFF if resource.push_config.push_endpoint else (0.0, 0.0)
