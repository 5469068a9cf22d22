"""What every test may ask for."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack.system import Stack, running

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """End as Ctrl-C does where `timeout` or CI ends a run, so that no started system stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
