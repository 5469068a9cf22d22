"""What goes wrong during a drill: processes killed and frozen, networks failing, all drawn from a seed."""

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from random import Random

import psutil

from local.stack.processes import Supervisor
from tests.chaos.proxy import Fault, Proxy

_PAUSE_S = (0.5, 3.0)
_FROZEN_S = (1.0, 8.0)
_FAULT_S = (1.0, 5.0)


class Disturbance(threading.Thread):
    """Disturbs a running system from `start` until `end`, one thing after another."""

    def __init__(self, supervisor: Supervisor, proxies: Mapping[str, Proxy], random: Random) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self._supervisor, self._proxies, self._random = supervisor, proxies, random
        self._names = sorted(supervisor.processes())
        self._over = threading.Event()

    def run(self) -> None:
        """Kill, freeze and cut connections until the end."""
        while not self._over.wait(self._random.uniform(*_PAUSE_S)):
            kind = self._random.choices((self._kill, self._freeze, self._fail), (5, 2, 3))[0]
            with suppress(psutil.NoSuchProcess):
                kind()

    def end(self) -> None:
        """Return when nothing is disturbed any more."""
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

    def _process(self) -> psutil.Process:
        return self._supervisor.processes()[self._random.choice(self._names)]
