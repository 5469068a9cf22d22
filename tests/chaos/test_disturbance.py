"""What a drill does to processes does what it says."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.chaos.clock import Clock, NoClock
from tests.chaos.disturbance import full_disk

_TELL = """
import sys, time
from datetime import UTC, datetime
for _ in sys.stdin:
    time.sleep(0.001)
    print(datetime.now(UTC).isoformat(), time.monotonic(), flush=True)
"""
_WRITE = """
import sys
for path in sys.stdin:
    try:
        with open(path.strip(), "wb") as file:
            file.write(b"scan")
    except OSError as error:
        print(error, flush=True)
    else:
        print("written", flush=True)
"""


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.stdin.close()


def ask(process: subprocess.Popen[str], line: str = "") -> str:
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_clock_jumps_and_comes_back_while_monotonic_time_runs_on(tmp_path: Path) -> None:
    try:
        clock = Clock(tmp_path)
    except NoClock as reason:
        pytest.skip(str(reason))
    with clock.told(), running(_TELL) as process:
        times = []
        for seconds in (0, 3600, -7200, 0):
            clock.set(seconds)
            told, monotonic = ask(process).split()
            off = datetime.fromisoformat(told) - datetime.now(UTC) - timedelta(seconds=seconds)
            assert abs(off) < timedelta(seconds=600)
            times.append(float(monotonic))
    assert times == sorted(times)
    assert times[-1] - times[0] < 600


def test_a_full_disk_refuses_a_write_and_takes_it_later(tmp_path: Path) -> None:
    with running(_WRITE) as process:
        assert ask(process, str(tmp_path / "one")) == "written"
        with full_disk(psutil.Process(process.pid)):
            assert "too large" in ask(process, str(tmp_path / "two"))
        assert ask(process, str(tmp_path / "two")) == "written"
