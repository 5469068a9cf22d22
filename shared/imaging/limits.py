"""What is decoded at most, and which exceptions of a decoder are the file's fault."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Reason, RejectedScan
from shared.scan import MAX_BYTES, MAX_VOLUME_BYTES

MAX_PIXELS = 50_000_000
"""Pixels of one page or frame: whatever a header claims, no more than this is decoded at a time."""

MAX_VOLUME_PIXELS = 100_000_000
"""Pixels of all slices of a DICOM or NIfTI file together, which is what is held of it: 512x512x200 are 52 million. The
pages of a TIFF may have as many as one page.
"""

MAX_PAGES = 1000
"""Pages or frames of a file. Each becomes an object, a message and rows, so that a few bytes more cost a lot."""

MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG, as libtiff allows. Each costs a pass over all pixels for a few bytes in the file."""

MIN_SIDE = 32
"""Pixels. A smaller picture is an icon or a thumbnail."""

DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow, simplejpeg, tifffile, imagecodecs, nibabel and pydicom raise on bad files, as fuzzing showed. A
MemoryError is not among them: sizes are checked before decoding, so it speaks of the machine, which may do better at
the next attempt.
"""

_SIGNS_OF_TRUNCATION = (
    "truncated",
    "not enough image data",
    "premature end",
    "end of file",
    "less than expected",
    "not enough data",
    "could the file be damaged",  # nibabel, of a volume shorter than its header says
)
_SIGNS_OF_UNSUPPORTED = ("unknown pixel mode", "unsupported", "not supported")


@contextmanager
def decoder_calls(*more: type[Exception]) -> Iterator[None]:
    """Wrap calls of a decoder and nothing else: what it raises is the file's fault. Its words may quote the file."""
    try:
        yield
    except DECODER_ERRORS + more as error:
        raise RejectedScan(_reason(error)) from None


def each[T](decoded: Iterator[T], *more: type[Exception]) -> Iterator[T]:
    """Yield the items of an iterator that decodes as it goes."""
    while True:
        with decoder_calls(*more):
            try:
                item = next(decoded)
            except StopIteration:
                return
        yield item


def check_size(width: int, height: int) -> None:
    """Raise RejectedScan for a page that is too small or too large."""
    if min(width, height) < MIN_SIDE:
        raise RejectedScan(Reason.TOO_SMALL)
    if width * height > MAX_PIXELS:
        raise RejectedScan(Reason.TOO_MANY_PIXELS)


def check_pages(pages: int, area: int, *, volume: bool) -> None:
    """Raise RejectedScan for a file of more pages, or more pixels of all pages together, than are decoded."""
    if pages > MAX_PAGES:
        raise RejectedScan(Reason.TOO_MANY_PAGES)
    if area > MAX_VOLUME_PIXELS:
        raise RejectedScan(Reason.TOO_MANY_PIXELS_IN_ALL)
    if area > MAX_PIXELS and not volume:
        raise RejectedScan(Reason.TOO_MANY_PIXELS)


def check_bytes(size: int, *, volume: bool) -> None:
    """Raise RejectedScan for a file of more bytes than are read: of a volume (DICOM, NIfTI) or of anything else."""
    if size > MAX_VOLUME_BYTES:
        raise RejectedScan(Reason.TOO_LARGE_VOLUME)
    if size > MAX_BYTES and not volume:
        raise RejectedScan(Reason.TOO_LARGE)


def inflated(content: bytes | memoryview, window_bits: int) -> bytes:
    """Return what a deflated stream holds (`window_bits` as in zlib). Raises RejectedScan, over the limit unread."""
    with decoder_calls():
        stream = zlib.decompressobj(window_bits)
        result = stream.decompress(content, MAX_VOLUME_BYTES + 1)
    check_bytes(len(result), volume=True)
    if not stream.eof:
        raise RejectedScan(Reason.TRUNCATED)
    return result


def _reason(error: Exception) -> Reason:
    words = str(error).lower()
    if isinstance(error, EOFError | struct.error) or any(sign in words for sign in _SIGNS_OF_TRUNCATION):
        return Reason.TRUNCATED
    if isinstance(error, NotImplementedError) or any(sign in words for sign in _SIGNS_OF_UNSUPPORTED):
        return Reason.UNSUPPORTED_FORMAT
    return Reason.CORRUPT
