"""The segments of a JPEG file or frame (ITU-T T.81, annex B): what the picture needs of them, and what names people."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.errors import Reason, RejectedScan

EOI, SOS = 0xD9, 0xDA
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_DHT, _DAC, _DQT, _DNL, _DRI = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
_TABLES = (_DHT, _DAC, _DQT, _DNL, _DRI)
_FRAMES = (*(marker for marker in range(0xC0, 0xD0) if marker not in (_DHT, _DAC, 0xC8)), 0xF7)  # the last is JPEG-LS
_SEQUENTIAL = (0xC0, 0xC1)
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_CODED_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # neither a stuffed byte, a fill byte, nor a restart marker


class Segment(NamedTuple):
    """A marker segment, with the entropy-coded data behind it if it starts a scan."""

    marker: int
    payload: bytes
    """What follows the marker's length."""
    coded: bytes = b""

    def pieces(self) -> tuple[bytes, bytes, bytes]:
        """Return marker and length, payload and coded data, which together are the segment in the file."""
        return struct.pack(">BBH", 0xFF, self.marker, len(self.payload) + 2), self.payload, self.coded


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Start of frame (T.81, B.2.2; T.87, C.2.2)."""

    marker: int
    precision: int
    width: int
    height: int
    component_ids: bytes


def segments(content: bytes) -> Iterator[Segment]:
    """Yield the segments between start and end of image; bytes between them are skipped.

    Raises RejectedScan if the file ends before its end marker.
    """
    at, size = 2, len(content)
    while found := _SEGMENT.search(content, at):
        at = found.end()
        marker = content[at - 1]
        if marker == EOI:
            return
        end = at + int.from_bytes(content[at : at + 2])
        if end < at + 2 or end > size:
            raise RejectedScan(Reason.TRUNCATED if end >= at + 2 else Reason.CORRUPT)
        if marker == SOS:
            coded_end = _coded_end(content, end)
            yield Segment(marker, content[at + 2 : end], content[end:coded_end])
            at = coded_end
        else:
            yield Segment(marker, content[at + 2 : end])
            at = end
    raise RejectedScan(Reason.TRUNCATED)


def joined(parts: Iterable[Segment]) -> bytes:
    """Return the file of these segments."""
    return b"".join([b"\xff\xd8", *(piece for part in parts for piece in part.pieces()), b"\xff\xd9"])


def stripped(content: bytes, parts: Sequence[Segment], kept: Sequence[Segment]) -> bytes:
    """Return the file of the segments that are kept: the content itself if these are all there is in it."""
    size = 4 + sum([4 + len(payload) + len(coded) for _, payload, coded in kept])
    return content if kept == parts and size == len(content) else joined(kept)


def bare(parts: Iterable[Segment]) -> list[Segment]:
    """Return what the picture needs: tables, frame, scans, JFIF's sixteen bytes and Adobe's colour transform.

    No other application segment, no comment, no thumbnail. Coded data are those of the file, bit for bit.
    """
    kept, sequential, jfif = [], False, False
    for part in parts:
        if part.marker in _FRAMES:
            sequential = part.marker in _SEQUENTIAL
            kept.append(part)
        elif part.marker == SOS:
            kept.append(_whole_spectrum(part) if sequential else part)
        elif part.marker in _TABLES:
            kept.append(part)
        elif part.marker == _APP0 and _is_jfif(part) and not jfif:
            jfif = True
            kept.append(part if part.payload[12:] == b"\0\0" else Segment(_APP0, part.payload[:12] + b"\0\0"))
        elif part.marker == _APP14 and part.payload.startswith(b"Adobe") and len(part.payload) >= 12:
            kept.append(Segment(_APP14, part.payload[:12]))
    return kept


def frame_header(parts: Iterable[Segment]) -> FrameHeader:
    """Return size and depth of the picture. Raises RejectedScan without a frame."""
    for part in parts:
        if part.marker in _FRAMES and len(part.payload) >= 6:
            precision, height, width, components = struct.unpack(">BHHB", part.payload[:6])
            return FrameHeader(part.marker, precision, width, height, part.payload[6 : 6 + 3 * components : 3])
    raise RejectedScan(Reason.CORRUPT)


def scans(parts: Iterable[Segment]) -> int:
    """Return how many scans the picture has."""
    return sum(part.marker == SOS for part in parts)


def density(parts: Iterable[Segment]) -> tuple[int, int]:
    """Return JFIF's horizontal and vertical density, (0, 0) without one: their ratio is height by width of a pixel."""
    for part in parts:
        if part.marker == _APP0 and _is_jfif(part):
            across, down = struct.unpack(">HH", part.payload[8:12])
            return across, down
    return 0, 0


def exif(parts: Iterable[Segment]) -> bytes | None:
    """Return the first EXIF block, from its `Exif` on."""
    return next((p.payload for p in parts if p.marker == _APP1 and p.payload.startswith(b"Exif\0\0")), None)


def is_ycc(parts: Iterable[Segment]) -> bool | None:
    """Return whether JFIF or Adobe's segment says that three components are YCbCr; None without either."""
    adobe = next((p.payload for p in parts if p.marker == _APP14 and p.payload.startswith(b"Adobe")), b"")
    if len(adobe) >= 12:
        return adobe[11] == 1
    return True if any(p.marker == _APP0 and _is_jfif(p) for p in parts) else None


def _is_jfif(part: Segment) -> bool:
    return part.payload.startswith(b"JFIF\0") and len(part.payload) >= 14


def _whole_spectrum(scan: Segment) -> Segment:
    """The scan with the end of spectral selection that a sequential frame must have (T.81, table B.3): some write 0."""
    if scan.payload[-3:-1] != b"\0\0":
        return scan
    return Segment(SOS, scan.payload[:-2] + b"\x3f" + scan.payload[-1:], scan.coded)


def _coded_end(content: bytes, start: int) -> int:
    found = _CODED_END.search(content, start)
    if not found:
        raise RejectedScan(Reason.TRUNCATED)
    return found.start()
