"""A TCP proxy that refuses, slows down or cuts off what passes it, as networks and busy servers do."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from random import Random

from local.stack.processes import free_port

_SLOW_S = (0.5, 3.0)
_CUT_AFTER = (1, 400)  # bytes of an answer


class Fault(Enum):
    """What becomes of connections while it lasts."""

    NONE = "passed on"
    REFUSED = "closed at once"
    SLOW = "answered late"
    CUT = "cut off in the middle of an answer"
    WITHHELD = "passed on, and the answers kept back"
    STALLED = "answered by half, and the rest never comes"


class Proxy:
    """Stands in front of one server. `fault` may be set from any thread; it meets old connections and new ones.

    `withholds` says which answers Fault.WITHHELD keeps back: all, unless a protocol greets before it works.
    """

    def __init__(self, target: int, random: Random, withholds: Callable[[bytes], bool] = bool) -> None:
        self.port = free_port()
        self.fault = Fault.NONE
        self._target, self._random, self._withholds = target, random, withholds
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Let a fault last."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = Fault.NONE

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._pass_on, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.REFUSED:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        try:
            there = asyncio.create_task(self._copy(reader, far_writer, answers=False))
            back = asyncio.create_task(self._copy(far_reader, writer, answers=True))
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            for task in (there, back):
                task.cancel()
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                match self.fault:
                    case Fault.REFUSED:
                        return
                    case Fault.SLOW if answers:
                        await asyncio.sleep(self._random.uniform(*_SLOW_S))
                    case Fault.CUT if answers:
                        writer.write(data[: self._random.randint(*_CUT_AFTER)])
                        await writer.drain()
                        return
                    case Fault.STALLED if answers:
                        writer.write(data[: len(data) // 2])
                        await writer.drain()
                        await asyncio.Event().wait()  # until the other side gives up
                    case Fault.WITHHELD if answers and self._withholds(data):
                        continue
                writer.write(data)
                await writer.drain()
            while answers and self.fault is Fault.WITHHELD:
                await asyncio.sleep(0.05)  # that the server is done is an answer too
            await asyncio.sleep(0.05)  # what was written last leaves before the connection is closed
