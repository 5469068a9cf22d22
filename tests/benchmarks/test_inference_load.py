"""The load generator counts what it asked for, and ends when that is answered."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.benchmarks.inference_load import load


class Impatient(BaseHTTPRequestHandler):
    """A service that answers every POST, and closes connections that it has not heard from for a moment."""

    protocol_version = "HTTP/1.1"
    timeout = 0.2

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Impatient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.timeout(30)
def test_connections_that_were_closed_for_idleness_are_no_requests_and_are_not_waited_for(url: str) -> None:
    result = load(url, [b"scan"], seconds=2, connections=6, rate=20)
    assert result.statuses == {200: 40}
    assert result.lost == 0
