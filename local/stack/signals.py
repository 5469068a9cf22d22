"""Ctrl-C, SIGTERM and a closed terminal, at any moment, end the system in order."""

import signal
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt in the main thread at the first such signal, and ignore those that follow.

    A terminal sends Ctrl-C to make, uv and Python at once, and some of them pass it on, so the second one comes while
    the first is being obeyed.
    """
    for each in _ENDING:
        signal.signal(each, _stop)


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, _ignore)
    raise KeyboardInterrupt


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which a process started meanwhile would inherit."""
