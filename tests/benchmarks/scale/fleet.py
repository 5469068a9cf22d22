"""A fleet of instances as Cloud Run keeps one, in a discrete-event simulation.

What it does, by Google's description of instance autoscaling: requests go to instances with a free place, wait while
others start, and are refused with 429 if none comes in time; every five seconds the number of instances is set so that
processors and places are used to 60%; a call is billed while its instance has any.
"""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Any

import simpy

Process = Generator[simpy.Event, Any]

_EVALUATED_S = 5
_TARGET = 0.6
"""Share of processors and of places that the autoscaler aims at."""
_WINDOW = 12
"""Evaluations whose mean counts: a minute."""
_IDLE_S = 900
_SPREAD = 0.35
"""Sigma of the lognormal that service times are drawn from."""


class Refused(Exception):
    """The fleet cannot take a call: it is down, or has no place in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one instance is, and how many there may be."""

    vcpu: int
    gib: float
    concurrency: int
    """Calls that an instance takes at a time."""
    most: int
    """Instances at most."""
    start_s: float
    """From the decision to start an instance until it takes a call."""


@dataclass(slots=True, eq=False)
class _Instance:
    processors: simpy.Resource
    in_flight: int = 0
    busy_since: float = 0
    used_at: float = 0
    is_over: bool = False


@dataclass(slots=True)
class Used:
    """What a fleet has used so far."""

    billed_s: float = 0
    """Seconds in which an instance had a call or was starting, over all instances."""
    processor_s: float = 0
    calls: int = 0
    refusals: int = 0
    starts: int = 0
    most_instances: int = 0


@dataclass(slots=True, eq=False)
class Fleet:
    """Instances of one service, each with processors of its own, or on those of a `machine` that all fleets share."""

    env: simpy.Environment
    size: Size
    random: Random
    machine: simpy.Resource | None = None
    outage: tuple[float, float] = (0, 0)
    used: Used = field(default_factory=Used)
    _instances: list[_Instance] = field(default_factory=list)
    _places: deque[_Instance] = field(default_factory=deque)
    _waiting: deque[simpy.Event] = field(default_factory=deque)
    _starting: int = 0
    _load: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _processor_s: float = 0

    def __post_init__(self) -> None:
        self.env.process(self._scale())

    @property
    def instances(self) -> int:
        """Instances that run or start."""
        return len(self._instances) + self._starting

    def serve(self, processor_s: float, wait_s: float, inner: Process | None = None) -> Process:
        """Take one call, which computes, waits for others, and runs `inner` meanwhile. Raises Refused."""
        if self.outage[0] <= self.env.now < self.outage[1]:
            yield self.env.timeout(1)
            self.used.refusals += 1
            raise Refused
        instance = yield from self._admitted()
        try:
            with instance.processors.request() as turn:
                yield turn
                seconds = self._drawn(processor_s)
                self.used.processor_s += seconds
                yield self.env.timeout(seconds)
            if inner:
                yield from inner
            yield self.env.timeout(self._drawn(wait_s))
            self.used.calls += 1
        finally:
            self._leave(instance)

    def _drawn(self, mean: float) -> float:
        return mean * self.random.lognormvariate(-_SPREAD * _SPREAD / 2, _SPREAD)

    def _admitted(self) -> Generator[simpy.Event, Any, _Instance]:
        deadline = self.env.now + max(10.0, 3.5 * self.size.start_s)
        while not (instance := self._free_place()):
            place = self.env.event()
            self._waiting.append(place)
            self._start_for(len(self._waiting))
            left = deadline - self.env.now
            yield place | self.env.timeout(max(left, 0))
            if not place.triggered:
                self._waiting.remove(place)
                self.used.refusals += 1
                raise Refused
        if not instance.in_flight:
            instance.busy_since = self.env.now
        instance.in_flight += 1
        return instance

    def _free_place(self) -> _Instance | None:
        while self._places:
            instance = self._places.popleft()
            if not instance.is_over:
                return instance
        return None

    def _leave(self, instance: _Instance) -> None:
        instance.in_flight -= 1
        instance.used_at = self.env.now
        if not instance.in_flight:
            self.used.billed_s += self.env.now - instance.busy_since
        self._places.append(instance)
        self._call_waiting(1)

    def _call_waiting(self, places: int) -> None:
        for _ in range(min(places, len(self._waiting))):
            self._waiting.popleft().succeed()

    def _start_for(self, waiting: int) -> None:
        """Start instances until those that start can take all that wait."""
        while self._starting * self.size.concurrency < waiting and self.instances < self.size.most:
            self._starting += 1
            self.env.process(self._start())

    def _start(self) -> Process:
        self.used.starts += 1
        self.used.most_instances = max(self.used.most_instances, self.instances)
        yield self.env.timeout(self.size.start_s)
        self._starting -= 1
        self.used.billed_s += self.size.start_s
        processors = self.machine or simpy.Resource(self.env, self.size.vcpu)
        instance = _Instance(processors, used_at=self.env.now)
        self._instances.append(instance)
        self._places.extend([instance] * self.size.concurrency)
        self._call_waiting(self.size.concurrency)

    def _scale(self) -> Process:
        while True:
            yield self.env.timeout(_EVALUATED_S)
            computed = (self.used.processor_s - self._processor_s) / _EVALUATED_S / self.size.vcpu
            self._processor_s = self.used.processor_s
            in_flight = sum(instance.in_flight for instance in self._instances) / self.size.concurrency
            self._load.append(max(computed, in_flight))
            wanted = min(ceil(sum(self._load) / len(self._load) / _TARGET), self.size.most)
            for _ in range(wanted - self.instances):
                self._starting += 1
                self.env.process(self._start())
            for instance in self._instances[wanted:]:
                if not instance.in_flight and self.env.now - instance.used_at > _IDLE_S:
                    instance.is_over = True
                    self._instances.remove(instance)
