"""A running inference service, in this process and as a process of its own."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from starlette.testclient import TestClient

from local.processes import free_port
from services.inference.app import create_app
from services.inference.settings import Settings

ROOT = Path(__file__).parents[3]


def head(side: int = 224, lesion: bool = False) -> np.ndarray:
    """uint8 (side, side): an ellipse with a texture that is the same at every call."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    pixels = np.where(x**2 / 0.5 + y**2 / 0.8 < 1, 110 + 40 * np.sin(9 * x) * np.cos(7 * y), 4)
    if lesion:
        pixels = np.where((x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.02, 240, pixels)
    return pixels.astype(np.uint8)


def encoded(pixels: np.ndarray, format: str = "JPEG", **options: object) -> bytes:
    """The pixels as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """One scan."""
    return encoded(head())


@pytest.fixture(scope="session")
def two_pages() -> bytes:
    """A TIFF of two different pages."""
    second = Image.fromarray(head(lesion=True))
    return encoded(head(), "TIFF", save_all=True, append_images=[second])


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The service in this process."""
    with TestClient(create_app(Settings())) as client:
        yield client


class Server:
    """The service as a process."""

    def __init__(self, url: str, process: subprocess.Popen, log: Path) -> None:
        self.url, self.process, self.log = url, process, log


@contextmanager
def running(log: Path, port: int = 0, **environment: str) -> Iterator[Server]:
    """Start `python -m services.inference`, wait until it is ready, and end it. A given port is the caller's to set."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    if not port:
        port = free_port()
        variables["PORT"] = str(port)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.inference"], cwd=ROOT, env=variables, stdout=output, stderr=output
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(server.url), 180)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    """Whether the service there answers."""
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with a queue long enough for a busy machine."""
    with running(tmp_path_factory.mktemp("server") / "log", QUEUE_SECONDS="30", BODY_SECONDS="2") as server:
        yield server
