"""Waiting for what a running system does in its own time."""

import time
from collections.abc import Callable

WITHIN_S = 300
"""Long enough for a busy machine; a test that passes never waits so long."""


def wait_until(condition: Callable[[], object], within_s: float = WITHIN_S, pause_s: float = 0.02) -> None:
    """Return once the condition holds. Raises AssertionError if it does not within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"this did not happen within {within_s} s"
        time.sleep(pause_s)
