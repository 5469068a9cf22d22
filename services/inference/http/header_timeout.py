"""A limit on the time and size of a request's headers, which uvicorn does not have."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SECONDS = 10
_BYTES = 1 << 20
"""Far above any headers, since the chunks counted may hold a part of the body too."""


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """HTTP protocol that closes connections whose headers take longer than 10 s or more than 1 MiB."""

    _timer: asyncio.TimerHandle | None = None
    _bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request's headers."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Count what arrives while headers are awaited."""
        if self._timer:
            self._bytes += len(data)
            if self._bytes > _BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock for this request's headers."""
        self._start()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock: the body has a deadline of its own."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._stop()
        self._bytes = 0
        self._timer = self.loop.call_later(_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
