"""The push half of the Pub/Sub stand-in: HTTP POST over kept-alive connections.

Its own few lines of HTTP/1.1 because a push is on the path of every message and only the status of the answer matters:
measured per request, they take a quarter of aiohttp's processor time and a hundredth of httpx's.
"""

import asyncio
import base64
import json
import logging
import re
from urllib.parse import urlsplit

from local.emulators.pubsub.queue import Delivery, Queue

CONCURRENCY = 100
"""Requests that may be under way to one endpoint; Pub/Sub itself grows its window from about there."""
_ACKNOWLEDGING = {102, 200, 201, 202, 204}  # https://cloud.google.com/pubsub/docs/push
_MOST_ANSWER_BYTES = 1 << 16
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

log = logging.getLogger(__name__)


class Push:
    """Consumer that posts every message to the subscription's endpoint."""

    deadline: float | None = None

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._address = urlsplit(queue.resource.push_config.push_endpoint)
        self._head = _request_head(self._address.netloc, self._address.path or "/", self._address.query)
        self._idle: list[Connection] = []  # the last used is used next, so that few stay open
        self._tasks: set[asyncio.Task[None]] = set()

    def room(self) -> int:
        """Requests that may still be sent."""
        return CONCURRENCY - len(self._tasks)

    def send(self, deliveries: list[Delivery]) -> None:
        """Post each of them."""
        for delivery in deliveries:
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def release(self, delivery: Delivery) -> None:
        """Nothing to do: the request's own task ends by itself."""

    def end(self) -> None:
        """Keep no connection. Requests under way still end, and settle their messages."""
        while self._idle:
            self._idle.pop()[1].close()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._queue.wake()

    async def _deliver(self, delivery: Delivery) -> None:
        ack_id = delivery.ack_id
        try:
            async with asyncio.timeout(self._queue.resource.ack_deadline_seconds):
                status: int | str = await self._post(push_body(self._queue, delivery))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            status = type(error).__name__
        if status in _ACKNOWLEDGING:
            self._queue.acknowledge(ack_id)
            return
        log.info("%s: push answered %s, delivery attempt %d", self._queue.name, status, delivery.failures + 1)
        self._queue.modify_deadline(ack_id, 0)

    async def _post(self, body: bytes) -> int:
        """Status of the answer. A kept connection that the endpoint has closed meanwhile is replaced."""
        while True:
            kept = bool(self._idle)
            connection = self._idle.pop() if kept else await self._connect()
            try:
                status, reusable = await _exchange(connection, b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            except (ConnectionError, asyncio.IncompleteReadError):
                connection[1].close()
                if not kept:
                    raise
            except BaseException:
                connection[1].close()
                raise
            else:
                if reusable:
                    self._idle.append(connection)
                else:
                    connection[1].close()
                return status

    async def _connect(self) -> Connection:
        secure = self._address.scheme == "https"
        port = self._address.port or (443 if secure else 80)
        return await asyncio.open_connection(self._address.hostname, port, ssl=secure or None)


def push_body(queue: Queue, delivery: Delivery) -> bytes:
    """The wrapped push message as https://cloud.google.com/pubsub/docs/push shows it, as JSON."""
    message = delivery.message
    published = message.publish_time.ToJsonString()
    wrapped = {
        "attributes": dict(message.attributes),
        "data": base64.b64encode(message.data).decode(),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "orderingKey": message.ordering_key,
        "publishTime": published,
        "publish_time": published,
    }
    body = {"message": {name: value for name, value in wrapped.items() if value}, "subscription": queue.name}
    if queue.attempts_counted:
        body["deliveryAttempt"] = delivery.failures + 1
    return json.dumps(body).encode()


def _request_head(host: str, path: str, query: str) -> bytes:
    return (
        f"POST {path}{'?' if query else ''}{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: CloudPubSub-Google\r\n"
        "Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()


async def _exchange(connection: Connection, request: bytes) -> tuple[int, bool]:
    """Status of the answer, and whether the connection may carry another request."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = _LENGTH.search(head)
    size = 0 if status == 204 else int(length[1]) if length else None
    if size is None or size > _MOST_ANSWER_BYTES or _CLOSE.search(head):
        return status, False  # cheaper to close than to read to an end that only chunks or the closing tell
    await reader.readexactly(size)
    return status, True
