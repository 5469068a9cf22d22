"""A running inference service, in this process and as a process of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.settings import Settings
from tests.support import servers
from tests.support.heads import encoded, head
from tests.support.servers import Server


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """One scan."""
    return encoded(head(224, 224))


@pytest.fixture(scope="session")
def two_pages() -> bytes:
    """A TIFF of two different pages."""
    second = Image.fromarray(head(224, 224, lesion=True))
    return encoded(head(224, 224), "TIFF", save_all=True, append_images=[second])


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The service in this process."""
    with TestClient(create_app(Settings())) as client:
        yield client


@contextmanager
def running(log: Path, port: int = 0, **environment: str) -> Iterator[Server]:
    """Start `python -m services.inference`, wait until it is ready, and end it. A given port is the caller's to set."""
    command = servers.python("-m", "services.inference")
    variables = os.environ | {"PYTHONPATH": str(servers.ROOT)} | environment
    with servers.running(command, log, "/readyz", port=port, environment=variables) as server:
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with a queue long enough for a busy machine."""
    with running(tmp_path_factory.mktemp("server") / "log", QUEUE_SECONDS="30", BODY_SECONDS="2") as server:
        yield server
