"""TIFF to pixels, by tifffile and imagecodecs. Imported at the first such file only."""

import io
import logging
import struct
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from shared.errors import Reason, RejectedScan
from shared.imaging.geometry import aspect_of, square_pixels, squared_size, upright
from shared.imaging.intensity import Mask, Pixels, Values, eight_bit, over_black, scaled
from shared.imaging.limits import MAX_PIXELS, check_pages, check_size, decoder_calls, each

# What tifffile finds odd may quote the file. What matters is raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

_MAX_STRIPS = 1 << 18
_REDUCED_OR_MASK = 0b101
"""Bits of NewSubfileType: a thumbnail or a step of a pyramid, and a mask."""

_COMPRESSIONS = {
    COMPRESSION.NONE,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITT_T4,
    COMPRESSION.CCITT_T6,
    COMPRESSION.LZW,
    COMPRESSION.JPEG,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.DEFLATE,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
}
_ORIENTATION = 274
_OLD_SUBFILE_TYPE = 255


def pages(content: bytes) -> Iterator[Pixels]:
    """Yield every page of full resolution, of an ImageJ stack every slice. Raises RejectedScan."""
    with decoder_calls(TiffFileError):
        file = TiffFile(io.BytesIO(content))
        directories = _of_full_resolution(file)
    count = area = 0
    for directory in each(directories, TiffFileError):
        with decoder_calls(TiffFileError):
            aspect = _aspect(directory)
            planes = _planes(file, directory)
            count += planes
            area += planes * directory.imagewidth * directory.imagelength
        check_pages(count, area, volume=False)
        check_size(directory.imagewidth, directory.imagelength)
        check_size(*squared_size(directory.imagewidth, directory.imagelength, aspect))
        _check_kind(directory)
        _check_extents(directory, len(content))
        with decoder_calls(TiffFileError):
            shown = _shown(directory, _stack(content, directory, planes))
            orientation = directory.tags.valueof(_ORIENTATION, 1)
        for page in each(shown, TiffFileError):
            yield upright(square_pixels(page, aspect), orientation)


def _of_full_resolution(file: TiffFile) -> Iterator[TiffPage]:
    """The pages that are neither thumbnail nor mask, or all of them if every page says that it is one."""
    found = False
    for directory in _directories(file):
        if not _is_auxiliary(directory):
            found = True
            yield directory
    if not found:
        yield from _directories(file)


def _directories(file: TiffFile) -> Iterator[TiffPage]:
    """Pages one by one, an endless chain cut where it closes; a page of which nothing is known is an error."""
    for directory in file.pages:
        check_pages(directory.index + 1, 0, volume=False)
        if not isinstance(directory, TiffPage):
            raise TypeError
        _check_next(file, directory)
        yield directory


def _check_next(file: TiffFile, directory: TiffPage) -> None:
    """The pointer to the next page lies in the file and points into it: tifffile would end the chain there."""
    form = file.tiff
    file.filehandle.seek(directory.offset)
    count = struct.unpack(form.tagnoformat, file.filehandle.read(form.tagnosize))[0]
    file.filehandle.seek(directory.offset + form.tagnosize + count * form.tagsize)
    pointer = struct.unpack(form.offsetformat, file.filehandle.read(form.offsetsize))[0]
    if pointer >= file.filehandle.size:
        raise RejectedScan(Reason.TRUNCATED)


def _is_auxiliary(directory: TiffPage) -> bool:
    reduced = directory.tags.valueof(_OLD_SUBFILE_TYPE, 1) == 2
    return bool(int(directory.subfiletype) & _REDUCED_OR_MASK) or reduced or directory.photometric == PHOTOMETRIC.MASK


def _planes(file: TiffFile, directory: TiffPage) -> int:
    """Slices behind one directory: ImageJ writes a stack of any length as one, its pixels one behind another."""
    images = (file.imagej_metadata or {}).get("images", 1) if directory.index == 0 and len(file.pages) == 1 else 1
    contiguous = directory.compression == COMPRESSION.NONE and directory.samplesperpixel == 1
    return max(int(images) if contiguous else 1, 1) * max(directory.imagedepth, 1)


def _aspect(directory: TiffPage) -> float:
    across, down = directory.resolution
    return aspect_of(across, down)


def _check_kind(directory: TiffPage) -> None:
    with decoder_calls(TiffFileError):
        kind, bits = directory.dtype, directory.bitspersample
        read = kind is not None and (kind.kind in "iub" or (kind.kind == "f" and kind.itemsize >= 4))
        planes_of_alpha = directory.planarconfig == 2 and len(directory.extrasamples) > 0
        known = directory.compression in _COMPRESSIONS and directory.samplesperpixel <= 5 and bits <= 64
        strips = max(len(directory.dataoffsets), len(directory.databytecounts))
        tile = directory.tilewidth * directory.tilelength * max(directory.tiledepth, 1)
        unlikely = strips > _MAX_STRIPS or not strips or tile > MAX_PIXELS
    if not read or planes_of_alpha or not known:
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT)
    if unlikely:
        raise RejectedScan(Reason.CORRUPT)


def _check_extents(directory: TiffPage, size: int) -> None:
    """Every strip or tile lies inside the file and none runs into another: decoders take that on trust."""
    with decoder_calls():
        pairs = zip(directory.dataoffsets, directory.databytecounts, strict=True)
        extents = sorted({(start, start + length) for start, length in pairs})
        missing = any(start <= 0 or end <= start for start, end in extents)
        beyond = any(end > size for _, end in extents)
        overlap = any(end > start for (_, end), (start, _) in pairwise(extents))
    if beyond:
        raise RejectedScan(Reason.TRUNCATED)
    if overlap or missing:
        raise RejectedScan(Reason.CORRUPT)


def _stack(content: bytes, directory: TiffPage, planes: int) -> Values:
    """Samples of one directory: (planes, h, w) or (planes, h, w, samples)."""
    height, width, samples = directory.imagelength, directory.imagewidth, directory.samplesperpixel
    if planes > max(directory.imagedepth, 1):
        kind = np.dtype(directory.dtype).newbyteorder(directory.parent.byteorder)
        stack = np.frombuffer(content, kind, planes * height * width, directory.dataoffsets[0])
        return stack.astype(kind.newbyteorder("=")).reshape(planes, height, width)
    values: Values = directory.asarray(maxworkers=1)
    if directory.planarconfig == 2 and samples > 1:
        values = values.reshape(samples, -1, height, width).transpose(1, 2, 3, 0)
    return values.reshape((planes, height, width) if samples == 1 else (planes, height, width, samples))


def _shown(directory: TiffPage, stack: Values) -> Iterator[Pixels]:
    """Pages of a stack as the photometric interpretation asks for (TIFF 6.0, section 3 to 6 and 16)."""
    for values in stack:
        if directory.photometric == PHOTOMETRIC.PALETTE:
            yield _palette(directory, values)
        elif directory.photometric == PHOTOMETRIC.SEPARATED:
            yield np.asarray(Image.fromarray(values[..., :4], "CMYK").convert("RGB"))
        elif values.ndim == 3 and values.shape[2] >= 3:
            colour = eight_bit(values[..., :3])
            yield over_black(colour, values[..., 3]) if _has_alpha(directory, 3) else colour
        elif values.ndim == 3:
            grey = _grey(directory, values[..., 0])
            yield over_black(grey, values[..., 1]) if _has_alpha(directory, 1) else grey
        else:
            yield _grey(directory, values)


def _has_alpha(directory: TiffPage, colours: int) -> bool:
    return directory.samplesperpixel > colours and any(int(extra) in (1, 2) for extra in directory.extrasamples[:1])


def _palette(directory: TiffPage, indices: Values) -> Pixels:
    """Colours of 16 bits, of which the upper eight are shown; some writers fill the lower eight only."""
    colours = np.asarray(directory.colormap, np.uint16)
    shift = 8 if colours.max() > 255 else 0
    return np.moveaxis((colours >> shift).astype(np.uint8)[:, indices], 0, -1)


def _grey(directory: TiffPage, values: Values) -> Pixels:
    if values.dtype.kind == "b" or (values.dtype == np.uint8 and directory.bitspersample < 8):
        steps = 255 // (2**directory.bitspersample - 1)
        pixels = values.astype(np.uint8) * np.uint8(steps)
    else:
        hidden = _no_data(directory, values)
        plain = values.dtype == np.uint8 and hidden is None
        pixels = values.astype(np.uint8, copy=False) if plain else scaled(values, hidden=hidden)
        if directory.photometric == PHOTOMETRIC.MINISWHITE and hidden is not None:
            return np.where(hidden, np.uint8(0), 255 - pixels)
    return 255 - pixels if directory.photometric == PHOTOMETRIC.MINISWHITE else pixels


def _no_data(directory: TiffPage, values: Values) -> Mask | None:
    """Where the value that GDAL's tag 42113 calls no data stands; None without the tag, or if nothing would be left."""
    if 42113 not in directory.tags or (values.dtype.kind == "f" and not np.isfinite(directory.nodata)):
        return None
    hidden = values == directory.nodata
    return hidden if hidden.any() and not hidden.all() else None
