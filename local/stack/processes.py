"""Processes of the local system: started together, restarted when they die or fail, ended together."""

import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil

_READY_WITHIN_S = 180
_STOP_WITHIN_S = 8
_STABLE_S = 5
"""A process that lives this long is healthy again: the next restart is immediate."""
_MAX_BACKOFF_S = 10
_CHECK_EVERY_S = 10.0
_ERRORS_TOLERATED = 3
"""Checks in a row that a living process may answer with an error before it is restarted."""
_PORTS = range(20_000, 32_768)
_counter = itertools.count(os.getpid() * 128)


class StackError(Exception):
    """The system cannot run. The message says why, and what to do."""


class Health(Enum):
    """What a process says when it is asked."""

    READY = "answers as it should"
    ERROR = "answers with an error"
    SILENT = "does not answer, which a busy or frozen process does too"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process that listens on a port of its own."""

    name: str
    command: Sequence[str]
    port: int
    environment: Mapping[str, str]
    health: str = ""
    """Path that answers 200 when ready; empty: ready when the port accepts connections."""
    query: bytes | None = None
    """JSON to post to that path; a server may live, and still fail whatever it is really asked."""

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Whether the process answers as it should."""
        return self.check() is Health.READY

    def check(self) -> Health:
        """Ask the process how it is."""
        try:
            if not self.health:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return Health.READY
            request = urllib.request.Request(  # noqa: S310 - loopback only
                self.url + self.health, self.query, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - loopback only
                return Health.READY if response.status == 200 else Health.ERROR
        except urllib.error.HTTPError:
            return Health.ERROR
        except OSError:
            return Health.SILENT


class Supervisor:
    """Starts services, starts one again that died or answers nothing but errors, and ends them all.

    Processes are started from threads of their own, never from the main thread: a signal's exception rises in the main
    thread alone, so it cannot come between the start of a process and its entry in the list of what must be ended.
    """

    def __init__(self, directory: Path) -> None:
        """Keep logs and the list of running processes under `directory`; end what a killed supervisor left there."""
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.restarts: Counter[str] = Counter()
        self._pids = directory / "pids.json"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        end_orphans(self._pids)

    def start(self, services: Sequence[Service]) -> None:
        """Start services together and wait until each is ready. Raises StackError if one does not come up."""
        for service in services:
            threading.Thread(target=self._keep_alive, args=(service,), daemon=True).start()
        deadline = time.monotonic() + _READY_WITHIN_S
        for service in services:
            self._await(service, deadline)
            if service.health:
                threading.Thread(target=self._watch, args=(service,), daemon=True).start()

    def processes(self) -> dict[str, psutil.Process]:
        """Return the process of each service that runs now, not of one that is about to be started again."""
        found = {}
        for name, process in list(self._running.items()):
            with suppress(psutil.NoSuchProcess):
                found[name] = psutil.Process(process.pid)
        return found

    def stop(self) -> None:
        """End every process, the last started first, by force if it does not go by itself. Does nothing twice."""
        self._stopping.set()
        with self._changing:
            running = list(reversed(self._running.values()))
            for process in running:
                process.terminate()
            deadline = time.monotonic() + _STOP_WITHIN_S
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
                _kill_group(process.pid)
                process.wait()
            self._running.clear()
            self._pids.unlink(missing_ok=True)

    def _spawn(self, service: Service) -> subprocess.Popen[bytes] | None:
        with self._changing:
            if self._stopping.is_set():
                return None
            with (self.logs / f"{service.name}.log").open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - our own commands
                    service.command,
                    env=dict(service.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the rest in order
                )
            self._running[service.name] = process
            self._write_pids()
            return process

    def _keep_alive(self, service: Service) -> None:
        backoff = 0.0
        while process := self._spawn(service):
            started = time.monotonic()
            process.wait()
            _kill_group(process.pid)  # a worker that outlived its parent would keep the port
            if time.monotonic() - started > _STABLE_S:
                backoff = 0.0
            if self._stopping.wait(backoff):
                return
            backoff = min(_MAX_BACKOFF_S, 2 * backoff or 0.5)
            self.restarts[service.name] += 1

    def _watch(self, service: Service) -> None:
        """Kill a process that was ready once and then answers errors alone.

        Silence is left alone, since a frozen process goes on later, and so is a process that is still starting.
        """
        errors, was_ready = 0, self._running[service.name].pid
        while not self._stopping.wait(_CHECK_EVERY_S):
            pid, health = self._running[service.name].pid, service.check()
            if health is Health.READY:
                was_ready = pid
            errors = errors + 1 if health is Health.ERROR and was_ready == pid else 0
            if errors == _ERRORS_TOLERATED:
                errors = 0
                _kill_group(pid)

    def _await(self, service: Service, deadline: float) -> None:
        while not service.is_ready():
            if time.monotonic() > deadline or self._stopping.wait(0.05):
                raise StackError(f"{service.name} did not start; see {self.logs / service.name}.log")

    def _write_pids(self) -> None:
        alive = {name: process for name, process in self._running.items() if process.poll() is None}
        pids = {}
        for name, process in alive.items():
            with suppress(psutil.NoSuchProcess):
                pids[name] = [process.pid, psutil.Process(process.pid).create_time()]
        self._pids.write_text(json.dumps(pids))


def end_orphans(pids: Path) -> None:
    """End the processes listed in `pids`, which a killed supervisor left on ports and files that are needed again."""
    if not pids.exists():
        return
    for pid, created in json.loads(pids.read_text() or "{}").values():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created:  # the number may belong to somebody else by now
                _kill_group(pid)
                process.wait(_STOP_WITHIN_S)
    pids.unlink()


def _kill_group(pid: int) -> None:
    """Kill a service's process with all of its session that still runs."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port on loopback that nobody listens on, and that this process was not given before.

    It lies below the ports that kernels give to outgoing connections, one of which could take it before it is used,
    and each process counts on from a place of its own, so that two that start systems at once do not meet.
    """
    while True:
        port = _PORTS[next(_counter) % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
