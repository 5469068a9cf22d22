"""Bytes to pixels, once and alike for validation, training, Spark and serving. A file is told by its content alone.

Only pixels leave, and technical attributes that name nobody: no tag, comment or name of a file is kept, logged or put
into an exception.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import Reason, RejectedScan
from shared.imaging.formats import VOLUMES, format_of
from shared.imaging.intensity import Pixels
from shared.imaging.limits import check_bytes
from shared.imaging.metadata import NOTHING, Attributes
from shared.imaging.raster import encode_png, read_bmp, read_jpeg, read_png

__all__ = ["Decoded", "decode", "decode_scan", "encode_png", "format_of"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file that decoded to its last pixel."""

    format: str
    """JPEG, PNG, BMP, TIFF, DICOM or NIfTI."""
    pages: tuple[Pixels, ...]
    """One a page, frame or slice: uint8 (h, w) grey or (h, w, 3) RGB of square pixels, to be read only."""
    stripped: bytes | None = None
    """The file without anything but its picture, if this may be kept as it is: one upright 8-bit grey or RGB picture
    of square pixels, as JPEG or PNG. Its pixels are those of the file, bit for bit."""
    attributes: Attributes = NOTHING
    """What the file says of itself."""

    @property
    def passes_through(self) -> bool:
        """Return whether the file, without its metadata, may be kept as it is."""
        return self.stripped is not None


def decode(content: bytes) -> Decoded:
    """Decode a whole file of any picture: JPEG, PNG, BMP, TIFF, DICOM or NIfTI.

    Grey deeper than 8 bits becomes 0..255 as `intensity.scaled` says, in DICOM through the display steps of PS3.3;
    deep colour keeps its upper byte. Orientation is applied, pixels are made square, transparency is laid on black.

    Raises RejectedScan and, for any bytes, nothing else but a MemoryError of the machine.
    """
    return _decoded(content, scans_only=False)


def decode_scan(content: bytes) -> Decoded:
    """Decode a whole file that is to be scored, as `decode`.

    Raises RejectedScan also for a file that says of itself that it is no brain MRI.
    """
    return _decoded(content, scans_only=True)


def _decoded(content: bytes, *, scans_only: bool) -> Decoded:
    if not content:
        raise RejectedScan(Reason.EMPTY)
    file_format = format_of(content)
    check_bytes(len(content), volume=file_format in VOLUMES)
    stripped, attributes = None, NOTHING
    if file_format == "JPEG":
        page, stripped = read_jpeg(content)
        pages: Iterable[Pixels] = [page]
    elif file_format == "PNG":
        page, stripped = read_png(content)
        pages = [page]
    elif file_format == "BMP":
        pages = [read_bmp(content)]
    else:
        attributes, pages = _volume(file_format, content)
    if scans_only and attributes.refusal:
        raise RejectedScan(attributes.refusal)
    taken = tuple(pages)
    if all(_is_blank(page) for page in taken):
        raise RejectedScan(Reason.BLANK)
    return Decoded(file_format, taken, stripped, attributes)


def _volume(file_format: str, content: bytes) -> tuple[Attributes, Iterator[Pixels]]:
    """Attributes and pages of a file that may have several, by a reader that is loaded at the first such file."""
    if file_format == "TIFF":
        from shared.imaging.tiff import pages  # noqa: PLC0415 - tifffile takes longer to import than all else here

        return NOTHING, pages(content)
    if file_format == "NIfTI":
        from shared.imaging import nifti  # noqa: PLC0415 - as does nibabel

        return nifti.read(content)
    from shared.imaging import dicom  # noqa: PLC0415 - and pydicom

    return dicom.read(content)


def _is_blank(pixels: Pixels) -> bool:
    """Whether every value is the same; nearly always a few of them tell that it is not."""
    few = pixels[::8, ::8]
    return bool(few.min() == few.max() and pixels.min() == pixels.max())
