"""ASGI as far as the service speaks it without a framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):  # noqa: N818 - a fact
    """The client went away before its request was complete."""


def header(scope: Scope, name: bytes) -> str:
    """A request's header, whose name is given in lower case, or an empty text."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def read(receive: Receive) -> bytes:
    """The whole body of a request. Raises Disconnected, and what `receive` raises."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return message.get("body", b"")  # most bodies come in one piece
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise Disconnected


async def respond(
    send: Send, status: int, body: bytes = b"", kind: str = "", headers: dict[str, str] | None = None
) -> None:
    """Send a whole response."""
    given = {"content-length": str(len(body))} | ({"content-type": kind} if kind else {}) | (headers or {})
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
