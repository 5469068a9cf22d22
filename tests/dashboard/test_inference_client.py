"""The REST client: answers become results, and every failure becomes a sentence."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dashboard import inference_client, overlay
from dashboard.inference_client import InferenceError, RefusedFile
from local import samples
from local.stack.system import Stack
from shared.scan import file_id

Serve = Callable[..., list[str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A service that answers with these statuses in turn, for what the real one does only under load or misuse.

    It keeps whoever meets the status 0 waiting until the test is over.
    """
    servers, over = [], threading.Event()

    def serving(*statuses: int, body: bytes = b"") -> list[str]:
        requests, left = [], list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                requests.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                status = left.pop(0) if len(left) > 1 else left[0]
                if not status:
                    over.wait()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):  # the client may have gone
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("INFERENCE_URL", f"http://127.0.0.1:{server.server_port}")
        return requests

    yield serving
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_file_becomes_a_result(system: Stack) -> None:
    content = samples.encode(samples.healthy_slices()[0], "PNG")
    (result,) = inference_client.read_file(content)
    assert result.scan_id == file_id(content)
    assert 0 <= result.probability <= 1
    assert overlay.image_of(result).shape == samples.healthy_slices()[0].shape
    assert len(result.heat_map.values) == 16


def test_a_file_of_pages_becomes_a_result_each(system: Stack) -> None:
    results = inference_client.read_file(samples.multi_page_tiff(samples.healthy_slices()[:3]))
    assert [result.scan_id[64:] for result in results] == ["-0001", "-0002", "-0003"]


def test_no_scan_is_refused_for_good(system: Stack) -> None:
    with pytest.raises(RefusedFile, match="not an image"):
        inference_client.read_file(b"no scan")


def test_the_service_tells_its_release_and_its_counts(system: Stack) -> None:
    assert 0 < inference_client.model()["threshold"] < 1
    assert inference_client.is_ready()
    assert any(sample.name == "scanflow_stage_seconds_count" for sample in inference_client.metrics())


def test_a_busy_service_is_asked_again(serve: Serve) -> None:
    requests = serve(503, 503, 422, body=b'{"detail": "The file is empty."}')
    with pytest.raises(RefusedFile, match="The file is empty"):
        inference_client.read_file(b"x")
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (503, b"", "busy"),
        (401, b"", "does not let this dashboard in"),
        (404, b'{"detail": "The scans bucket has no such scan."}', "no such scan"),
        (500, b"<html>", "failed with status 500"),
        (500, b"[]", "failed with status 500"),
    ],
)
def test_every_failure_is_a_sentence(serve: Serve, status: int, body: bytes, sentence: str) -> None:
    serve(status, body=body)
    with pytest.raises(InferenceError, match=sentence) as failure:
        inference_client.read_file(b"x")
    assert not isinstance(failure.value, RefusedFile)


def test_a_slow_service_is_not_asked_twice(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_client, "_ANSWER_S", 0.1)
    requests = serve(0)
    with pytest.raises(InferenceError, match="too long"):
        inference_client.read_file(b"x")
    assert len(requests) == 1
