"""A clock that jumps: `clock.c` is loaded into every process of the system, and told by a file how far to be off.

The storage stand-in is linked statically and keeps the right time, so that clocks differ too.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

_SOURCE = Path(__file__).with_suffix(".c")


class NoClock(Exception):
    """Clocks cannot be made to jump here. The message says why."""


class Clock:
    """What the processes that are started within `told` take for the time of day."""

    def __init__(self, folder: Path) -> None:
        """Keep the clock in a folder, right at first. Raises NoClock."""
        self._file, self._library = folder / "clock", folder / "clock.so"
        self._file.write_bytes(struct.pack("q", 0))
        _compile(self._library)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let processes that are started meanwhile ask this clock."""
        with patch.dict(os.environ, LD_PRELOAD=str(self._library), WRONG_CLOCK=str(self._file)):
            yield

    def set(self, seconds: int) -> None:
        """Be so far ahead of the right time, or behind it."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))


def check() -> None:
    """Raise NoClock where clocks cannot be made to jump."""
    if not shutil.which("cc"):
        raise NoClock("Clocks stay right in these drills: to let them jump, install a C compiler (cc).")


def _compile(library: Path) -> None:
    check()
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
