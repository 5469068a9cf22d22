"""The parts of a multipart/related body (RFC 2387), one at a time as they arrive."""

from collections.abc import AsyncIterator
from email.message import Message
from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PART = 2**30
"""Bytes of one object: more than any pixel data that the pipeline takes, and less than would fill the memory."""


async def parts(request: Request) -> AsyncIterator[bytes]:
    """Yield each part's content. Raises HTTPException 400, 413 or 415 for what is no such body."""
    collector = _Collector()
    parser = MultipartParser(_boundary(request), collector.callbacks())
    try:
        async for chunk in request.stream():
            parser.write(chunk)
            for part in collector.finished():
                yield part
        parser.finalize()
    except MultipartParseError:
        raise HTTPException(400, "The body's parts do not follow its boundary.") from None
    if not collector.ended:
        raise HTTPException(400, "The body ends before its closing boundary.")


def _boundary(request: Request) -> bytes:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise HTTPException(415, 'Send multipart/related; type="application/dicom" with a boundary.')
    return boundary.encode()


class _Collector:
    """Gathers one part's bytes until it ends."""

    def __init__(self) -> None:
        self.ended = False
        self._part = bytearray()
        self._finished: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {"on_part_data": self._data, "on_part_end": self._part_end, "on_end": self._end}

    def finished(self) -> list[bytes]:
        """Return the parts that ended since the last call."""
        taken, self._finished = self._finished, []
        return taken

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part += data[start:end]
        if len(self._part) > _MAX_PART:
            raise HTTPException(413, "One object is larger than 1 GiB.")

    def _part_end(self) -> None:
        self._finished.append(bytes(self._part))
        self._part = bytearray()

    def _end(self) -> None:
        self.ended = True
