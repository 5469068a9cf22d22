"""A function over HTTP that counts its calls."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Function(ThreadingHTTPServer):
    """A function that counts its calls and answers with the next of `statuses`, then with 200."""

    def __init__(self) -> None:
        self.calls = 0
        self.together = 0
        self.statuses: deque[int] = deque()
        self.released = threading.Event()
        self.released.set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Function

    def do_POST(self) -> None:
        self.server.calls += 1
        self.server.together += 1
        self.server.released.wait(60)
        self.server.together -= 1
        self.send_response(self.server.statuses.popleft() if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def counted() -> Iterator[Function]:
    """Serve such a function until left."""
    server = Function()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
