"""Limits on the bodies of requests: time and size of one, memory of all together."""

import asyncio
from dataclasses import dataclass

from starlette.types import Message, Receive

from services.inference.metrics import BODY_BYTES
from services.inference.worker_pool import Overloaded


class RequestTooLarge(Exception):
    """A body over the limit."""


class SlowBody(Exception):
    """A body that did not arrive in time."""


@dataclass(slots=True, kw_only=True)
class BodyLimits:
    """What bodies may take, and the bytes that they hold now."""

    seconds: float
    """Time in which a body must arrive."""
    one: int
    """Bytes of one body."""
    together: int
    """Bytes of all bodies in memory."""
    held: int = 0

    def hold(self, size: int) -> None:
        """Count bytes in, or out if negative."""
        self.held += size
        BODY_BYTES.set(self.held)

    def check(self, size: int, more: int) -> None:
        """Raise RequestTooLarge if a body of `size` is, or Overloaded if `more` bytes do not fit now."""
        if size > self.one:
            raise RequestTooLarge
        if self.held + more > self.together:
            raise Overloaded


class LimitedBody:
    """ASGI `receive` of one request that raises when the body grows too large or takes too long."""

    def __init__(self, limits: BodyLimits, receive: Receive, announced: int) -> None:
        """`announced`: the length in the request's header, or 0. Raises RequestTooLarge, Overloaded."""
        limits.check(announced, announced)
        limits.hold(announced)
        self.complete = False
        self._limits, self._receive = limits, receive
        self._held, self._seen = announced, 0
        self._deadline = asyncio.get_running_loop().time() + limits.seconds

    async def __call__(self) -> Message:
        """Return the next ASGI message. Raises RequestTooLarge, Overloaded, SlowBody."""
        if self.complete:  # what comes now is the disconnection, for which there is no hurry
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise SlowBody from None
        self.complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def release(self) -> None:
        """Free the bytes: the request is over."""
        self._limits.hold(-self._held)

    def _count(self, size: int) -> None:
        self._seen += size
        more = max(self._seen - self._held, 0)
        self._limits.check(self._seen, more)
        self._limits.hold(more)
        self._held += more
