"""What every test may ask for, and how the tests are dealt to workers."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from xdist.remote import Producer
from xdist.workermanage import NodeManager

from local.stack.system import Stack, running
from tests.support.scheduling import FromBothEnds, in_order

ROOT = Path(__file__).parents[1]
_WORKER_BYTES = 7 << 30
"""Memory of a worker at its most: its own whole system, a Spark job, TensorFlow and a browser."""


def pytest_configure() -> None:
    """End as Ctrl-C does where `timeout` or CI ends a run, so that no started system stays behind.

    A shell that starts tests in the background lets them, and what they start, ignore Ctrl-C.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)


def pytest_keyboard_interrupt() -> None:
    """Tear down undisturbed by further signals, which xdist sends too."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let interrupted workers end their systems at once: xdist kills them a while after it told them."""
    if exitstatus == pytest.ExitCode.INTERRUPTED and session.config.getoption("numprocesses"):
        NodeManager.EXIT_TIMEOUT = 60
        for worker in psutil.Process().children():
            worker.terminate()


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` is: one a core, as far as memory goes."""
    return max(1, min(os.process_cpu_count() or 1, psutil.virtual_memory().total // _WORKER_BYTES))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds:
    """Return what deals the tests to the workers."""
    config.option.loadscopereorder = False
    return FromBothEnds(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring those together that share what is slow to start."""
    items[:] = in_order(items)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real scans and malformed files, which are never committed."""
    folder = Path(os.environ.get("SCANFLOW_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no scans at {folder}; set SCANFLOW_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system, running; its stand-ins' addresses are in the environment."""
    with running(tmp_path_factory.mktemp("stack")) as system:
        yield system


@pytest.fixture
def source() -> str:
    """A source that no other test uses."""
    return f"test-{uuid.uuid4().hex[:8]}"
