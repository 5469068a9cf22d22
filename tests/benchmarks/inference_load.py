"""Load on an HTTP service; prints JSON.

Plain sockets in one process, because the generator shares the service's cores. Bodies come as files from the standard
input, a path a line, and go out as multipart forms.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

BOUNDARY = b"9f1c2e7ab04d"
_MAX_CONNECTIONS = 1000


@dataclass(slots=True)
class Result:
    """What came back: seconds of each response by status, and how long the run took."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    statuses: Counter = field(default_factory=Counter)
    lost: int = 0
    duration: float = 0

    def add(self, status: int, seconds: float) -> None:
        """Count a response; status 0 is a connection that broke before it came."""
        if not status:
            self.lost += 1
            return
        self.seconds.setdefault(status, []).append(seconds)
        self.statuses[status] += 1


@dataclass(slots=True, eq=False)
class Connection:
    """One keep-alive connection, with at most one request on it."""

    socket: socket.socket
    due: float = 0
    received: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes, due: float) -> None:
        """Send a whole request; a scan of this size fits into the socket's buffer."""
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bool] | None:
        """Status and whether the connection stays open, once the response is whole. Raises ConnectionError."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionResetError
        self.received += chunk
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.received[:end]).lower()
        length = _header(head, b"content-length")
        whole = (
            len(self.received) >= end + 4 + int(length) if length is not None else self.received.endswith(b"0\r\n\r\n")
        )
        if not whole:
            return None
        self.received.clear()
        return int(head[9:12]), _header(head, b"connection") != b"close"


def request(path: str, host: str, content: bytes) -> bytes:
    """A POST of one file as a form."""
    disposition = (
        b'Content-Disposition: form-data; name="file"; filename="scan.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = b"--" + BOUNDARY + b"\r\n" + disposition + content + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n\r\n" + body


def load(url: str, contents: list[bytes], seconds: float, connections: int, rate: float = 0) -> Result:
    """Closed loop: `connections` requests always in flight. With a rate: that many a second, whatever comes back.

    With a rate, a response's time counts from when its request was due, so that a slow service hides nothing.
    """
    parts = urlsplit(url)
    requests = deque(request(parts.path, parts.netloc, content) for content in contents)
    address = (parts.hostname, parts.port)
    selector, result = selectors.DefaultSelector(), Result()
    idle = [_connect(address, selector) for _ in range(connections)]
    opened = len(idle)
    start = time.perf_counter()
    end, due = start + seconds, start
    in_flight = 0
    while (now := time.perf_counter()) < end or (in_flight and now < end + 60):
        while now < end and due <= now:
            if not idle:
                if not rate or opened >= _MAX_CONNECTIONS:
                    break
                idle.append(_connect(address, selector))
                opened += 1
            idle.pop().send(requests[0], due if rate else time.perf_counter())
            in_flight += 1
            requests.rotate(-1)
            due = due + 1 / rate if rate else now
        wait = max(due - time.perf_counter(), 0) if rate and now < end else 0.1
        for key, _ in selector.select(wait):
            connection = key.data
            try:
                done = connection.receive()
            except ConnectionError:
                done = 0, False
            if done is None:
                continue
            status, stays = done
            if connection in idle:  # the service closes what it has not heard from for some seconds
                idle.remove(connection)
            else:
                in_flight -= 1
                result.add(status, time.perf_counter() - connection.due)
            if not stays:
                selector.unregister(connection.socket)
                connection.socket.close()
                connection = _connect(address, selector)
            idle.append(connection)
    result.duration = time.perf_counter() - start
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    result.lost += in_flight
    return result


def _header(head: bytes, name: bytes) -> bytes | None:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    return head[start + len(name) + 3 :].partition(b"\r\n")[0].strip()


def _connect(address: tuple[str, int], selector: selectors.BaseSelector) -> Connection:
    opened = socket.create_connection(address)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection = Connection(opened)
    selector.register(opened, selectors.EVENT_READ, connection)
    return connection


def main() -> None:
    """Load the service, and print what came back."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.inference_load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    parser.add_argument(
        "rate", type=float, nargs="?", default=0, help="requests per second; 0: as many as are answered"
    )
    arguments = parser.parse_args()
    bodies = [Path(line.strip()).read_bytes() for line in sys.stdin]
    started = time.process_time()
    measured = load(arguments.url, bodies, arguments.seconds, arguments.connections, arguments.rate)
    json.dump(
        {
            "duration": measured.duration,
            "processor": time.process_time() - started,
            "lost": measured.lost,
            "seconds": measured.seconds,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
