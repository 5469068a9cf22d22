"""Bytes to pixels, once and alike for validation, training, Spark and serving. A file is told by its content alone.

Only pixels leave: no tag, comment or name of a file is kept, logged or put into an exception.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import simplejpeg
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageFile,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
)
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
)

from shared.errors import Reason, RejectedScan
from shared.scan import MAX_BYTES

# A line for every odd tag, of which a hostile file has thousands. What matters is raised.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

MAX_PIXELS = 50_000_000
"""Pixels of all pages of a file together: whatever a header claims, no more than this is decoded."""

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
"""What Pillow, simplejpeg and pydicom with its plugins raise on bad files, as fuzzing showed. A MemoryError is not
among them: sizes are checked before decoding, so it speaks of the machine, which may do better at the next attempt."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_OTHER_IMAGES = (b"GIF8", b"RIFF", b"8BPS", b"\0\0\1\0", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"%PDF")
_SIGNS_OF_TRUNCATION = ("truncated", "premature end", "end of file", "less than expected", "not enough data")
_SIGNS_OF_UNSUPPORTED = ("unknown pixel mode", "unsupported", "not supported")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
_BLOCK_PIXELS = 1 << 20
_MAX_STRIPS = 1 << 18

# Pillow unpacks these, but has no entry for them: 64-bit floating point, and big-endian grey of other kinds.
for _white_is_zero in (0, 1):
    TiffImagePlugin.OPEN_INFO |= {
        (TiffImagePlugin.II, _white_is_zero, (3,), 1, (64,), ()): ("F", "F;64F"),
        (TiffImagePlugin.MM, _white_is_zero, (3,), 1, (64,), ()): ("F", "F;64BF"),
        (TiffImagePlugin.MM, _white_is_zero, (1,), 1, (32,), ()): ("I", "I;32B"),
        (TiffImagePlugin.MM, _white_is_zero, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
    }

# Bits and sample format of those that it takes for the other sign.
_REINTERPRETED = {((32,), (1,)): np.uint32, ((32,), None): np.uint32, ((8,), (2,)): np.int8}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file that decoded to its last pixel."""

    format: str
    """JPEG, PNG, BMP, TIFF or DICOM."""
    pages: tuple[np.ndarray, ...]
    """One a page or frame: uint8 (height, width) grey or (height, width, 3) RGB, to be read only."""
    passes_through: bool
    """Whether the file itself may be kept: one upright 8-bit grey or RGB picture, as JPEG or PNG."""


def decode(content: bytes) -> Decoded:
    """Decode a whole file: JPEG, PNG, BMP, TIFF or DICOM.

    Grey deeper than 8 bits becomes 0..255 as `scaled` says, in DICOM through rescale and window; 16-bit colour is
    made for display and keeps its upper byte. EXIF orientation is applied; transparency is laid on black.

    Raises RejectedScan and, for any bytes, nothing else but a MemoryError of the machine.
    """
    if not content:
        raise RejectedScan(Reason.EMPTY)
    if len(content) > MAX_BYTES:
        raise RejectedScan(Reason.TOO_LARGE)
    file_format = format_of(content)
    pages, passes_through = _READERS[file_format](content)
    if all(_is_blank(page) for page in pages):
        raise RejectedScan(Reason.BLANK)
    return Decoded(file_format, tuple(pages), passes_through)


def _is_blank(pixels: np.ndarray) -> bool:
    """Whether every value is the same; nearly always a few of them tell that it is not."""
    few = pixels[::8, ::8]
    return few.min() == few.max() and pixels.min() == pixels.max()


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 (h, w) or (h, w, 3) pixels, and of nothing else."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    return png.getvalue()


def format_of(content: bytes) -> str:
    """JPEG, PNG, BMP, TIFF or DICOM, by the first bytes. Raises RejectedScan: unsupported format or not an image."""
    if content[128:132] == b"DICM":
        return "DICOM"
    for signature, file_format in _SIGNATURES.items():
        if content.startswith(signature):
            return file_format
    if content.startswith(_OTHER_IMAGES) or content[4:8] == b"ftyp" or content[344:347] in (b"n+1", b"ni1"):
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT)
    raise RejectedScan(Reason.NOT_AN_IMAGE)


def scaled(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """uint8 of deep grey values (h, w): 0 at the first limit, 255 at the second, linear between, clipped beyond.

    Without limits, the 0.5th and the 99.5th percentile of the finite values, as MedSAM takes for magnetic resonance
    (Ma et al., Nature Communications 15:654, 2024), or their extremes where these two are equal: a few bright vessels
    or dead pixels leave the tissue its contrast. Not a number becomes black.
    """
    low, high = limits or _usual_range(values)
    gain = 255 / (high - low) if high != low else 0.0
    pixels = np.empty(values.shape, np.uint8)
    rows = max(_BLOCK_PIXELS // values.shape[1], 1)
    with np.errstate(invalid="ignore", over="ignore"):
        for top in range(0, len(values), rows):
            block = (values[top : top + rows].astype(np.float64) - low) * gain
            pixels[top : top + rows] = np.rint(np.clip(np.nan_to_num(block), 0, 255))
    return pixels


def _usual_range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, (0.5, 99.5))
    return (float(low), float(high)) if low < high else (float(finite.min()), float(finite.max()))


@contextmanager
def decoder_calls(*more: type[Exception]) -> Iterator[None]:
    """Round calls of a decoder and nothing else: what it raises is the file's fault. Its words may quote the file."""
    try:
        yield
    except (*DECODER_ERRORS, *more) as error:
        raise RejectedScan(_reason(error)) from None


def each[T](decoded: Iterator[T], *more: type[Exception]) -> Iterator[T]:
    """The items of an iterator that decodes as it goes."""
    while True:
        with decoder_calls(*more):
            try:
                item = next(decoded)
            except StopIteration:
                return
        yield item


def check_size(width: int, height: int, area: int | None = None, pages: int = 1) -> None:
    """Raise RejectedScan for a page that is too small, or a file of too many pages or pixels (`area`) so far."""
    if min(width, height) < MIN_SIDE:
        raise RejectedScan(Reason.TOO_SMALL)
    if pages > MAX_PAGES:
        raise RejectedScan(Reason.TOO_MANY_PAGES)
    if (width * height if area is None else area) > MAX_PIXELS:
        raise RejectedScan(Reason.TOO_MANY_PIXELS)


def _reason(error: Exception) -> Reason:
    words = str(error).lower()
    if isinstance(error, EOFError | struct.error) or any(sign in words for sign in _SIGNS_OF_TRUNCATION):
        return Reason.TRUNCATED
    if isinstance(error, NotImplementedError) or any(sign in words for sign in _SIGNS_OF_UNSUPPORTED):
        return Reason.UNSUPPORTED_FORMAT
    return Reason.CORRUPT


def _jpeg(content: bytes) -> tuple[list[np.ndarray], bool]:
    """simplejpeg in strict mode: what libjpeg-turbo only warns of, short and damaged data, is an error."""
    if content.rfind(b"\xff\xd9") < 0:  # from the end, where it is
        raise RejectedScan(Reason.TRUNCATED)
    with decoder_calls():
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    check_size(width, height)
    if content.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise RejectedScan(Reason.CORRUPT)
    wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
    with decoder_calls():
        pixels = simplejpeg.decode_jpeg(content, wanted, strict=True)
        upright = b"Exif\0\0" not in content or _is_upright(JpegImagePlugin.JpegImageFile(io.BytesIO(content)))
    if wanted == "CMYK" or not upright:
        with decoder_calls():
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
        return [_pixels(image)], False
    return [pixels[:, :, 0] if wanted == "GRAY" else pixels], True


def _png(content: bytes) -> tuple[list[np.ndarray], bool]:
    with decoder_calls():
        image = PngImagePlugin.PngImageFile(io.BytesIO(content))
        animated = image.is_animated
    if animated:
        raise RejectedScan(Reason.ANIMATED)
    check_size(*image.size)
    if b"IEND" not in content:
        raise RejectedScan(Reason.TRUNCATED)
    with decoder_calls():
        image.load()
        depth, colour_type = content[24:26]  # of the header chunk, which comes first
        plain = depth == 8 and colour_type in (0, 2) and not image.has_transparency_data and _is_upright(image)
    return [_pixels(image)], plain


def _bmp(content: bytes) -> tuple[list[np.ndarray], bool]:
    with decoder_calls():
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(content))
    check_size(*image.size)
    return [_pixels(image)], False


class _Tiff(TiffImagePlugin.TiffImageFile):
    """Refuses a page of millions of strips before Pillow makes an object of each."""

    def _setup(self) -> None:
        if any(len(self.tag_v2.get(tag, ())) > _MAX_STRIPS for tag in (STRIPOFFSETS, TILEOFFSETS)):
            raise RejectedScan(Reason.CORRUPT)
        super()._setup()


def _tiff(content: bytes) -> tuple[list[np.ndarray], bool]:
    with decoder_calls():
        image = _Tiff(io.BytesIO(content))
    pages, area = [], 0
    for page in each(ImageSequence.Iterator(image)):
        area += page.width * page.height
        check_size(page.width, page.height, area, pages=len(pages) + 1)
        _check_extents(page.tag_v2, len(content))
        pages.append(_tiff_pixels(page))
    return pages, False


def _check_extents(tags: TiffImagePlugin.ImageFileDirectory_v2, size: int) -> None:
    """Every strip or tile lies inside the file and none runs into another: Pillow and libtiff take that on trust."""
    with decoder_calls():
        tiled = TILEOFFSETS in tags
        offsets = tags[TILEOFFSETS if tiled else STRIPOFFSETS]
        lengths = tags[TILEBYTECOUNTS if tiled else STRIPBYTECOUNTS]
        extents = sorted({(start, start + length) for start, length in zip(offsets, lengths, strict=True)})
        huge_tile = tiled and tags[TILEWIDTH] * tags[TILELENGTH] > MAX_PIXELS
        beyond = any(end > size for _, end in extents)
        overlap = any(end > start for (_, end), (start, _) in pairwise(extents))
    if beyond:
        raise RejectedScan(Reason.TRUNCATED)
    if overlap or huge_tile:
        raise RejectedScan(Reason.CORRUPT)


def _tiff_pixels(page: TiffImagePlugin.TiffImageFile) -> np.ndarray:
    """Pillow's pixels, where needed in the byte order, sign and direction that the tags give them."""
    with decoder_calls():
        kind = page.tag_v2.get(BITSPERSAMPLE), page.tag_v2.get(SAMPLEFORMAT)
        white_is_zero = page.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        if page.mode in _DEEP_MODES and page.use_load_libtiff:
            page.tile = [_in_native_order(tile) for tile in page.tile]
        page.load()
    if page.mode not in _DEEP_MODES and kind not in _REINTERPRETED:
        return _pixels(page)
    values = np.asarray(page)
    pixels = scaled(values.view(_REINTERPRETED.get(kind, values.dtype)))
    return 255 - pixels if white_is_zero else pixels


def _in_native_order(tile: ImageFile._Tile) -> ImageFile._Tile:
    """libtiff swaps the bytes of a big-endian file, which Pillow forgets for more than 16 bits."""
    raw_mode, *rest = tile.args
    return tile._replace(args=(raw_mode.replace("B", "N"), *rest))


def _dicom(content: bytes) -> tuple[list[np.ndarray], bool]:
    from shared.imaging.dicom import frames  # noqa: PLC0415 - pydicom takes longer to import than all else here together

    return list(frames(content)), False


_READERS = {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "TIFF": _tiff, "DICOM": _dicom}


def _is_upright(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _pixels(image: Image.Image) -> np.ndarray:
    """Upright 8-bit pixels of a picture of any mode; transparent parts are laid on black, as air is in a scan."""
    with decoder_calls():
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
        if image.mode not in ("L", "RGB", *_DEEP_MODES):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(image)
    return scaled(pixels) if image.mode in _DEEP_MODES else pixels
