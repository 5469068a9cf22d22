"""Ctrl-C, SIGTERM and a closed terminal, at any moment, end the system in order."""

import signal
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_AFTER_S = 1.0


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt in the main thread at the first such signal, and ignore those that follow.

    A terminal sends Ctrl-C to make, uv and Python at once, and some of them pass it on, so the second one comes while
    the first is being obeyed. The exception may rise where Python swallows it, as in a destructor or in a callback of
    a C library, so it is raised again every second until `interrupted` is called.
    """
    for each in _ENDING:
        signal.signal(each, _stop)
    signal.signal(signal.SIGALRM, _raise)


def interrupted() -> None:
    """Say that the exception arrived, or is not wanted any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, _ignore)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER_S, _AGAIN_AFTER_S)
    raise KeyboardInterrupt


def _raise(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which a process started meanwhile would inherit."""
