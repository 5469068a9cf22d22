"""The proxy passes on what it gets, and fails as it is told."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest
import requests

from tests.chaos.proxy import Fault, Proxy

ANSWER = bytes(1000)


class Handler(BaseHTTPRequestHandler):
    """Answers a thousand bytes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Proxy(server.server_port, Random(1))
        yield made
        made.close()
        server.shutdown()


def ask(proxy: Proxy) -> bytes:
    return requests.get(f"http://127.0.0.1:{proxy.port}/", timeout=30).content


def fails(proxy: Proxy) -> bool:
    """Whether the answer is missing or short: half a header may pass for an answer without a length."""
    try:
        return ask(proxy) != ANSWER
    except requests.RequestException:
        return True


def test_everything_is_passed_on(proxy: Proxy) -> None:
    assert ask(proxy) == ANSWER


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.CUT])
def test_a_fault_fails_requests_while_it_lasts(proxy: Proxy, fault: Fault) -> None:
    with proxy.failing(fault):
        assert fails(proxy)
    assert ask(proxy) == ANSWER


def test_a_withheld_answer_never_comes_though_the_request_arrived(proxy: Proxy) -> None:
    with proxy.failing(Fault.WITHHELD), pytest.raises(requests.ReadTimeout):
        requests.get(f"http://127.0.0.1:{proxy.port}/", timeout=0.2)
    assert ask(proxy) == ANSWER
