"""Connections that end, whatever comes over them: the libraries' time-outs begin again with every byte of an answer."""

import math
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

_WITHIN_S = 60
"""Of a connection, from its opening: twice the silence that a destination is allowed."""


def session() -> requests.Session:
    """Return a session whose connections are ended a minute after they were opened.

    What was under way then raises requests.RequestException.
    """
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter())
    return made


def ending(connection: socket.socket, within_s: float) -> threading.Timer:
    """Return the running timer that ends a connection from beneath whoever reads it, TLS too; to be cancelled."""
    timer = threading.Timer(within_s, _end, (connection,))
    timer.daemon = True
    timer.start()
    return timer


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Ended:
    """Part of a connection that ends itself."""

    sock: socket.socket | None
    _timer: threading.Timer | None = None
    _until = math.inf

    def connect(self) -> None:
        super().connect()  # type: ignore[misc] # a connection's own
        if self.sock:
            self._until = time.monotonic() + _WITHIN_S
            self._timer = ending(self.sock, _WITHIN_S)

    def getresponse(self) -> HTTPResponse:
        response: HTTPResponse = super().getresponse()  # type: ignore[misc]
        if time.monotonic() >= self._until:
            raise TimeoutError  # what ends among the headers reads as an answer without a body
        return response

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        super().close()  # type: ignore[misc]


class _Http(_Ended, HTTPConnection):  # type: ignore[misc] # urllib3 overrides the standard response itself
    pass


class _Https(_Ended, HTTPSConnection):  # type: ignore[misc]
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the adapter has it
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:  # noqa: ANN401
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
