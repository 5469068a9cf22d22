"""What goes wrong during a drill, all drawn from a seed: kills, freezes, failing networks, full disks, wrong clocks."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from random import Random

import psutil

from local.stack.processes import Supervisor
from tests.chaos.clock import Clock
from tests.chaos.proxy import Fault, Proxy

_PAUSE_S = (0.5, 3.0)
_FROZEN_S = (1.0, 8.0)
_FAULT_S = (1.0, 5.0)
_FULL_S = (1.0, 5.0)
_WRONG_S = (2.0, 6.0)
_JUMP_S = 7200
"""Clocks are ahead or behind by so much at most."""
_WRITERS = ("bigquery", "pubsub", "storage")
"""The processes that keep something on disk."""


class Disturbance(threading.Thread):
    """Disturbs a running system from `start` until `end`, one thing after another."""

    def __init__(
        self, supervisor: Supervisor, proxies: Mapping[str, Proxy], clock: Clock | None, random: Random
    ) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self._supervisor, self._proxies, self._clock, self._random = supervisor, proxies, clock, random
        self._names = sorted(supervisor.processes())
        self._over = threading.Event()

    def run(self) -> None:
        """Do one thing after another until the end."""
        kinds = {self._kill: 5, self._freeze: 2, self._fail: 3, self._fill: 1}
        if self._clock:
            kinds[self._jump] = 1
        while not self._over.wait(self._random.uniform(*_PAUSE_S)):
            kind = self._random.choices(list(kinds), list(kinds.values()))[0]
            with suppress(psutil.NoSuchProcess, KeyError):  # just then it is being started again
                kind()

    def end(self, at_least: int) -> None:
        """Return when so many things went wrong in all, and nothing does any more."""
        while self.done.total() < at_least and self.is_alive():
            self._over.wait(0.2)
        self._over.set()
        self.join()

    def _kill(self) -> None:
        self._process().kill()
        self.done["kills"] += 1

    def _freeze(self) -> None:
        process = self._process()
        process.suspend()
        try:
            self._over.wait(self._random.uniform(*_FROZEN_S))
        finally:
            process.resume()
        self.done["freezes"] += 1

    def _fail(self) -> None:
        proxy = self._proxies[self._random.choice(sorted(self._proxies))]
        fault = self._random.choice([Fault.REFUSED, Fault.SLOW, Fault.CUT])
        with proxy.failing(fault):
            self._over.wait(self._random.uniform(*_FAULT_S))
        self.done["faults"] += 1

    def _fill(self) -> None:
        """Let the disk of one stand-in be full for a while."""
        with full_disk(self._supervisor.processes()[self._random.choice(_WRITERS)]):
            self._over.wait(self._random.uniform(*_FULL_S))
        self.done["full_disks"] += 1

    def _jump(self) -> None:
        assert self._clock
        self._clock.set(self._random.randint(-_JUMP_S, _JUMP_S))
        try:
            self._over.wait(self._random.uniform(*_WRONG_S))
        finally:
            self._clock.set(0)
        self.done["jumps"] += 1

    def _process(self) -> psutil.Process:
        return self._supervisor.processes()[self._random.choice(self._names)]


@contextmanager
def full_disk(process: psutil.Process) -> Iterator[None]:
    """Let every write of a process to a file fail, as on a disk that is full: no file of its may grow meanwhile."""
    soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
