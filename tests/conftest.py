"""What every test may ask for, and how the tests are dealt to workers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.stack.system import Stack, running

ROOT = Path(__file__).parents[1]
SHARED_BY_A_FOLDER = ("stack", "terraform")
"""Fixtures that take many seconds to start: a folder's tests that use one run on one worker, in one session of it."""
_WORKER_BYTES = 7 << 30
"""Memory of a worker at its most: its own whole system, a Spark job, TensorFlow and a browser."""


def pytest_configure() -> None:
    """End as Ctrl-C does where `timeout` or CI ends a run, so that no started system stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` is: one a core, as far as memory goes."""
    return max(1, min(os.process_cpu_count() or 1, psutil.virtual_memory().total // _WORKER_BYTES))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that share what is slow to start run on one worker, and let those begin first: they take longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: not _shared(item))


def _group(item: pytest.Item) -> str:
    """Return the item's folder and what it shares with others there, else its file."""
    if shared := _shared(item):
        return f"{item.path.parent.relative_to(ROOT)} {shared}"
    return str(item.path.relative_to(ROOT))


def _shared(item: pytest.Item) -> str:
    names = item.fixturenames if isinstance(item, pytest.Function) else []
    return next((name for name in SHARED_BY_A_FOLDER if name in names), "")


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
