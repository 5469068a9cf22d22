"""One system for each folder of state: whoever runs it holds its lock, and says where it answers."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from local.stack.processes import StackError, end_orphans

_END_WITHIN_S = 30


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises StackError if another process holds it, with the address of its dashboard."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as file:
        if not _is_free(file):
            raise StackError(_already_running(directory))
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (directory / "endpoints.json").unlink(missing_ok=True)


def write_endpoints(directory: Path, endpoints: Mapping[str, Any]) -> None:
    """Write the address of every part of the running system, whole or not at all."""
    partial = directory / "endpoints.json.partial"
    partial.write_text(json.dumps(endpoints, indent=2) + "\n")
    partial.rename(directory / "endpoints.json")


def end_running(directory: Path) -> None:
    """End the system that runs on this folder, and whatever an earlier one left behind."""
    with (directory / "lock").open("a+") as file:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            if _is_free(file):
                break
            file.seek(0)
            with suppress(ProcessLookupError):
                os.kill(int(file.read()), ending)
            _wait_until_free(file)
        for pids in (directory / "pids.json", directory / "hospital" / "pids.json"):
            end_orphans(pids)


def _wait_until_free(file: TextIO) -> None:
    deadline = time.monotonic() + _END_WITHIN_S
    while not _is_free(file) and time.monotonic() < deadline:
        time.sleep(0.05)


def _is_free(file: TextIO) -> bool:
    """Take the lock if nobody holds it, and return whether this process now does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _already_running(directory: Path) -> str:
    with suppress(FileNotFoundError, KeyError):
        dashboard = json.loads((directory / "endpoints.json").read_text())["dashboard"]
        return f"Scanflow is already running at {dashboard}, stop it with Ctrl-C there or with `make clean`."
    return "Scanflow is already starting in another terminal, stop it with Ctrl-C there."
