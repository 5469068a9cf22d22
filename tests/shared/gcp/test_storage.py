"""Objects are created once, replaced only as read, and their names stay out of errors."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from local.stack.provision import make_buckets
from local.stack.system import Stack
from shared.gcp import storage


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    make_buckets({"test": name})
    yield name


def test_object_is_created_once_by_the_first_of_many(bucket: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: storage.create(bucket, "once", str(n).encode(), "text/plain"), range(8)))
    assert won.count(True) == 1
    assert storage.read(bucket, "once") == str(won.index(True)).encode()


def test_object_is_replaced_only_over_the_generation_that_was_read(bucket: str) -> None:
    storage.create(bucket, "pointer", b"1", "text/plain")
    generation = storage.client().bucket(bucket).get_blob("pointer").generation
    assert storage.replace(bucket, "pointer", b"2", "text/plain", generation=generation)
    assert not storage.replace(bucket, "pointer", b"3", "text/plain", generation=generation)
    assert storage.read(bucket, "pointer") == b"2"


def test_copy_keeps_the_bytes_and_who_sent_them(bucket: str) -> None:
    storage.create(bucket, "original", b"bytes", "text/plain", {"source": "ward-3"})
    blob = storage.client().bucket(bucket).get_blob("original")
    assert storage.copy(blob, bucket, "copied")  # the stand-in ignores a copy's precondition, so only this is asked
    assert storage.read(bucket, "copied") == b"bytes"
    assert storage.client().bucket(bucket).get_blob("copied").metadata == {"source": "ward-3"}


def test_missing_object_is_an_error_that_does_not_name_it(bucket: str) -> None:
    with pytest.raises(storage.StorageError, match="no such object") as failure:
        storage.read(bucket, "Cancer/Doe-Jane.dcm")
    assert "Doe" not in repr(failure.value)
    assert failure.value.__cause__ is None


def test_listing_knows_content_without_reading_it(bucket: str) -> None:
    for name in ("listed/a", "listed/b", "listed/c"):
        storage.create(bucket, name, b"same" if name != "listed/c" else b"other", "text/plain")
    blobs = list(storage.objects(bucket, "listed/"))
    assert [blob.name for blob in blobs] == ["listed/a", "listed/b", "listed/c"]
    assert len({storage.fingerprint(blob) for blob in blobs}) == 2


class _CreatesOnly(BaseHTTPRequestHandler):
    """Cloud Storage as it answers a caller with roles/storage.objectCreator and objectViewer, who may not overwrite."""

    taken = "taken"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(403, {"error": {"message": "does not have storage.objects.delete access"}})

    def do_GET(self) -> None:
        self._answer(200 if self.taken in self.path else 404, {"name": self.taken})

    def _answer(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def may_not_overwrite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _CreatesOnly)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    client = Client(project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": address})
    monkeypatch.setattr(storage, "client", lambda: client)
    yield
    server.shutdown()


def test_a_name_that_is_taken_is_taken_for_a_caller_who_may_not_overwrite(may_not_overwrite: None) -> None:
    assert not storage.create("uploads", "taken", b"x", "text/plain")


def test_a_caller_who_may_not_create_is_told_so(may_not_overwrite: None) -> None:
    with pytest.raises(storage.StorageError, match="403"):
        storage.create("uploads", "free", b"x", "text/plain")


def test_forty_callers_at_a_time_keep_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    callers, connections = 40, []
    together = Barrier(callers)

    class Bucket(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            together.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server, ThreadPoolExecutor(callers) as pool:
        server.socket.listen(callers)
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        own = storage.client.__wrapped__()
        monkeypatch.setattr(storage, "client", lambda: own)
        for turn in range(2):
            names = [f"{turn}-{number}" for number in range(callers)]
            assert all(pool.map(lambda name: storage.create("b", name, b"x", "text/plain"), names))
        own.close()
        server.shutdown()
    assert len(connections) < 1.5 * callers  # a busy machine resets some; a pool of ten would open 70
