"""A push subscription as Pub/Sub keeps one, in a discrete-event simulation."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import simpy

from tests.benchmarks.scale.fleet import Process, Refused


class Message(NamedTuple):
    """What is delivered: of which scan, and how often it was tried."""

    scan: int
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a subscription delivers and tries again."""

    hop_s: float
    """From a publish until the push arrives."""
    first_backoff_s: float
    longest_backoff_s: float
    most_attempts: int
    widest: float
    """Pushes in flight at most."""


@dataclass(slots=True, eq=False)
class Subscription:
    """Pushes messages. The window of pushes in flight grows by each success and halves by each refusal."""

    env: simpy.Environment
    policy: Policy
    step: Callable[[int], Process]
    """What a push does, from the number of its scan. It may raise Refused."""
    dead: int = 0
    """Messages that became dead letters."""
    later: int = 0
    """Messages that wait for their next attempt."""
    _queue: deque[Message] = field(default_factory=deque)
    _in_flight: int = 0
    _window: float = 4

    @property
    def backlog(self) -> int:
        """Messages not acknowledged yet."""
        return len(self._queue) + self._in_flight + self.later

    def publish(self, scan: int) -> None:
        """Take a message."""
        self._queue.append(Message(scan))
        self._push()

    def _push(self) -> None:
        while self._queue and self._in_flight < self._window:
            self._in_flight += 1
            self.env.process(self._deliver(self._queue.popleft()))

    def _deliver(self, message: Message) -> Process:
        yield self.env.timeout(self.policy.hop_s)
        try:
            yield from self.step(message.scan)
        except Refused:
            self._window = max(1.0, self._window / 2)
            self._fail(message._replace(attempts=message.attempts + 1))
        else:
            self._window = min(self.policy.widest, self._window + 1)
        self._in_flight -= 1
        self._push()

    def _fail(self, message: Message) -> None:
        if message.attempts >= self.policy.most_attempts:
            self.dead += 1
        else:
            self.later += 1
            self.env.process(self._retry(message))

    def _retry(self, message: Message) -> Process:
        backoff = self.policy.first_backoff_s * 2 ** (message.attempts - 1)
        yield self.env.timeout(min(backoff, self.policy.longest_backoff_s))
        self.later -= 1
        self._queue.append(message)
        self._push()
