"""The chunks of a PNG file (ISO/IEC 15948): what the picture needs of them, and what names people."""

import struct
from collections.abc import Iterable, Iterator

from shared.errors import Reason, RejectedScan

SIGNATURE = b"\x89PNG\r\n\x1a\n"

type Chunk = tuple[bytes, bytes, bytes]
"""Type, data, and the whole of it with length and checksum."""


def chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end of image. Raises RejectedScan if the file ends before it."""
    at = len(SIGNATURE)
    while True:
        header = content[at : at + 8]
        if len(header) < 8:
            raise RejectedScan(Reason.TRUNCATED)
        length, kind = struct.unpack(">I4s", header)
        if not kind.isalpha():
            raise RejectedScan(Reason.CORRUPT)
        whole = content[at : at + 12 + length]
        if len(whole) < 12 + length:
            raise RejectedScan(Reason.TRUNCATED)
        yield kind, whole[8:-4], whole
        if kind == b"IEND":
            return
        at += len(whole)


def joined(parts: Iterable[Chunk], *kinds: bytes) -> bytes:
    """Return the file of the chunks of these kinds, each as it was."""
    return SIGNATURE + b"".join(whole for kind, _, whole in parts if kind in kinds)


def first(parts: Iterable[Chunk], kind: bytes) -> bytes:
    """Return the data of the first chunk of a kind; empty without one."""
    return next((data for found, data, _ in parts if found == kind), b"")


def is_animated(parts: Iterable[Chunk]) -> bool:
    """Return whether an animation control chunk announces several frames."""
    control = first(parts, b"acTL")
    return len(control) >= 4 and int.from_bytes(control[:4]) > 1


def density(parts: Iterable[Chunk]) -> tuple[int, int]:
    """Return pixels per unit across and down, (0, 0) if unsaid: their ratio is height by width of a pixel."""
    physical = first(parts, b"pHYs")
    across, down = struct.unpack(">II", physical[:8]) if len(physical) == 9 else (0, 0)
    return across, down
