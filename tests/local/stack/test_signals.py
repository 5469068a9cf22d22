"""A signal ends the main thread even if its exception was swallowed once, and a second one changes nothing."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from local.stack.signals import interrupted, stop_on_signals
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the handlers of pytest back."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    yield
    interrupted()
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_the_first_signal_raises_and_those_that_follow_do_not(kind: int) -> None:
    stop_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), kind)
    interrupted()
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), again)


def test_an_interrupt_that_was_swallowed_comes_again() -> None:
    stop_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        wait_until(lambda: time.monotonic() < 0)
