"""A server as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from local.stack.processes import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
_READY_WITHIN_S = 180


@dataclass(frozen=True)
class Server:
    """A running server: its address and process."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    health: str,
    *,
    port: int = 0,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start a server, wait until `health` is answered with a status below 500, and end it on leaving.

    The word `PORT` in the command, and the variable PORT, become the port; without one a free port is taken. The
    environment is this process's own unless one is given. If the server ends early, the assertion shows its log.
    """
    port = port or free_port()
    variables = {**(os.environ | {"PYTHONPATH": str(ROOT)} if environment is None else environment), "PORT": str(port)}
    words = [str(port) if word == "PORT" else word for word in command]
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=cwd, env=variables, stdout=output, stderr=output)
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(lambda: process.poll() is not None or answers(server.url + health), _READY_WITHIN_S)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.terminate()
        process.wait(30)


def python(*arguments: str) -> list[str]:
    """Return a command that runs this environment's Python."""
    return [sys.executable, *arguments]


def answers(url: str) -> bool:
    """Return whether the address answers with a status below 500."""
    try:
        return requests.get(url, timeout=5).status_code < 500
    except requests.RequestException:
        return False
