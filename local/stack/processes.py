"""Processes of the local stack: started together, restarted when they die, ended together."""

import json
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
from pathlib import Path

import psutil

_READY_WITHIN_S = 90
_STOP_WITHIN_S = 8
_STABLE_S = 5
"""A process that lives this long is healthy again: the next restart is immediate."""
_MAX_BACKOFF_S = 10


class StackError(Exception):
    """A process did not come up. The message says which, and where its log lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process that listens on a port of its own."""

    name: str
    command: Sequence[str]
    port: int
    environment: Mapping[str, str]
    health: str = ""
    """Path that answers 200 when ready; empty: ready when the port accepts connections."""

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """Whether the process answers."""
        try:
            if not self.health:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            with urllib.request.urlopen(self.url + self.health, timeout=2) as response:  # noqa: S310 - loopback only
                return response.status == 200
        except (OSError, urllib.error.HTTPError):
            return False


class Supervisor:
    """Starts services, starts a killed one again, and ends them all."""

    def __init__(self, directory: Path) -> None:
        """Keep logs and the list of running processes under `directory`; end what a killed supervisor left there."""
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.restarts: Counter[str] = Counter()
        self._pids = directory / "pids.json"
        self._running: dict[str, subprocess.Popen] = {}
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._end_orphans()

    def start(self, services: Sequence[Service]) -> None:
        """Start services together and wait until each is ready. Raises StackError where one does not come up."""
        for service in services:
            self._spawn(service)
            threading.Thread(target=self._keep_alive, args=(service,), daemon=True).start()
        deadline = time.monotonic() + _READY_WITHIN_S
        for service in services:
            self._await(service, deadline)

    def processes(self) -> dict[str, psutil.Process]:
        """The running process of each service."""
        return {name: psutil.Process(process.pid) for name, process in self._running.items()}

    def stop(self) -> None:
        """End every process, the last started first, by force where it does not go by itself."""
        self._stopping.set()
        with self._changing:
            running = list(reversed(self._running.values()))
            for process in running:
                process.terminate()
            deadline = time.monotonic() + _STOP_WITHIN_S
            for process in running:
                try:
                    process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
            self._pids.unlink(missing_ok=True)

    def _spawn(self, service: Service) -> None:
        with self._changing:
            if self._stopping.is_set():
                return
            with (self.logs / f"{service.name}.log").open("ab") as log:
                self._running[service.name] = subprocess.Popen(  # noqa: S603 - our own commands
                    service.command,
                    env=dict(service.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the rest in order
                )
            self._remember()

    def _keep_alive(self, service: Service) -> None:
        backoff = 0.0
        while not self._stopping.is_set():
            started = time.monotonic()
            self._running[service.name].wait()
            if time.monotonic() - started > _STABLE_S:
                backoff = 0.0
            if self._stopping.wait(backoff):
                return
            backoff = min(_MAX_BACKOFF_S, 2 * backoff or 0.5)
            self.restarts[service.name] += 1
            self._spawn(service)

    def _await(self, service: Service, deadline: float) -> None:
        while not service.is_ready():
            if time.monotonic() > deadline or self._stopping.wait(0.05):
                raise StackError(f"{service.name} did not start; see {self.logs / service.name}.log")

    def _remember(self) -> None:
        pids = {name: [process.pid, psutil.Process(process.pid).create_time()] for name, process in self._alive()}
        self._pids.write_text(json.dumps(pids))

    def _alive(self) -> list[tuple[str, subprocess.Popen]]:
        return [(name, process) for name, process in self._running.items() if process.poll() is None]

    def _end_orphans(self) -> None:
        """A supervisor that was killed outright leaves its processes behind, on ports and files that we need."""
        if not self._pids.exists():
            return
        for pid, created in json.loads(self._pids.read_text()).values():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.create_time() == created:  # the number may belong to somebody else by now
                    process.kill()
                    process.wait(_STOP_WITHIN_S)
        self._pids.unlink()


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
