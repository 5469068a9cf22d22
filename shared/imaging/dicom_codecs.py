"""Pixel data to samples: one frame at a time, native (PS3.5, 8.1) or encapsulated (PS3.5, annex A.4)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
import simplejpeg

from shared.errors import Reason, RejectedScan
from shared.imaging import jpeg
from shared.imaging.dicom_dataset import Source
from shared.imaging.intensity import Values
from shared.imaging.limits import MAX_JPEG_SCANS

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_JPEG, _JPEG_2000, _JP2 = b"\xff\xd8", b"\xff\x4f", b"jP  "
_JPEG_LS, _LOSSLESS = 0xF7, 0xC3
_COMPRESSED = "1.2.840.10008.1.2.4."
_READ_SYNTAXES = {f"{_COMPRESSED}{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 201, 202, 203)}
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The attributes of the Image Pixel module (PS3.3, C.7.6.3), what was missing filled in."""

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: (h, w), or (h, w, samples) if there are several."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)


@dataclass(frozen=True, slots=True)
class Frame:
    """Samples of one frame, of the format's shape."""

    values: Values
    precision: int | None = None
    """Bits of a sample as a codec says it: its values are right-justified. None if the format says where they stand."""
    is_rgb: bool = False
    """Whether the codec has turned YCbCr into RGB."""


def frame_reader(source: Source, form: PixelFormat) -> Callable[[int], Frame]:
    """Return the function that decodes frame `index`. Raises RejectedScan, or what decoders raise."""
    if not source.encapsulated:
        size = _native_bytes(source, form)
        if len(source.pixels) * 8 < size * form.frames:
            raise RejectedScan(Reason.TRUNCATED)
        return lambda index: Frame(_native(source, form, index * size, size))
    if source.syntax.startswith(_COMPRESSED) and source.syntax not in _READ_SYNTAXES:
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT)
    frames = _encapsulated(source.pixels, form.frames)
    return lambda index: _decoded(frames[index], source.syntax, form)


def _native_bytes(source: Source, form: PixelFormat) -> int:
    """Bits of one frame."""
    bits = int(source.float_kind[1:]) * 8 if source.float_kind else form.allocated
    samples: float = 2 if form.photometric == "YBR_FULL_422" else form.samples
    return int(form.rows * form.columns * samples) * bits


def _native(source: Source, form: PixelFormat, start: int, size: int) -> Values:
    data, order = source.pixels, "<" if source.little_endian else ">"
    if form.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data[start // 8 : -(-(start + size) // 8)], np.uint8), bitorder="little")
        return bits[start % 8 : start % 8 + size].reshape(form.shape)
    frame = data[start // 8 : (start + size) // 8]
    if source.float_kind:
        return np.frombuffer(frame, order + source.float_kind).reshape(form.shape)
    if form.allocated == 12:
        return _unpacked_12(np.frombuffer(frame, np.uint8)).reshape(form.shape)
    if form.allocated not in (8, 16, 32):
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT)
    values = np.frombuffer(frame, f"{order}u{form.allocated // 8}")
    if form.allocated == 8 and source.words and not source.little_endian and values.size % 2 == 0:
        values = values.view(np.uint16).byteswap().view(np.uint8)
    if form.photometric == "YBR_FULL_422":
        return _unsampled_422(values).reshape(form.shape)
    if form.planar and form.samples > 1:
        return np.moveaxis(values.reshape(form.samples, form.rows, form.columns), 0, -1)
    return values.reshape(form.shape)


def _unpacked_12(octets: Values) -> Values:
    """Two samples of 12 bits in three bytes, the first in the lower bits (PS3.5, annex D in editions before 2004)."""
    first, middle, last = octets.reshape(-1, 3).astype(np.uint16).T
    return np.column_stack([first | (middle & 15) << 8, middle >> 4 | last << 4]).ravel()


def _unsampled_422(values: Values) -> Values:
    """Every pixel's Y, Cb and Cr from Y1 Y2 Cb Cr of each two (PS3.3, C.7.6.3.1.2)."""
    pairs = values.reshape(-1, 4)
    return pairs[:, [0, 2, 3, 1, 2, 3]].reshape(-1, 3)


def _encapsulated(value: memoryview, count: int) -> list[bytes]:
    """Bytes of every frame, of one or several fragments each. A missing delimiter at the end is forgiven."""
    fragments, at = [], 0
    while len(value) - at >= 8 and value[at : at + 4] == _ITEM:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        fragments.append(value[at + 8 : at + 8 + length])
        at += 8 + length
    if not fragments:
        raise RejectedScan(Reason.TRUNCATED if len(value) < 8 else Reason.CORRUPT)
    cut = at > len(value) or (at < len(value) and value[at : at + 4] != _DELIMITER[: len(value) - at])
    offsets, *fragments = fragments
    frames = _by_frame(offsets, fragments, count)
    if len(frames) < count or (cut and len(frames) == count):
        raise RejectedScan(Reason.TRUNCATED)
    return frames[:count]


def _by_frame(offsets: memoryview, fragments: list[memoryview], count: int) -> list[bytes]:
    """Fragments joined to frames: all to one, one to each, by the offset table, or by the codestreams' first bytes."""
    if count == 1:
        return [b"".join(fragments)] if fragments else []
    if len(fragments) == count or not fragments:
        return [bytes(fragment) for fragment in fragments]
    starts, at = {}, 0
    for index, fragment in enumerate(fragments):
        starts[at] = index
        at += 8 + len(fragment)
    table = struct.unpack(f"<{len(offsets) // 4}I", offsets[: len(offsets) // 4 * 4])
    if len(table) >= count and all(offset in starts for offset in table):
        firsts = [starts[offset] for offset in table]
    else:
        magic = bytes(fragments[0][:2])
        firsts = [index for index, fragment in enumerate(fragments) if fragment[:2] == magic]
    bounds = zip(firsts, [*firsts[1:], len(fragments)], strict=True)
    return [b"".join(fragments[first:end]) for first, end in bounds]


def _decoded(data: bytes, syntax: str, form: PixelFormat) -> Frame:
    """Decode by what the frame is, whatever transfer syntax the file claims."""
    if data.startswith(_JPEG):
        return _decoded_jpeg(data, form)
    if data.startswith(_JPEG_2000) or data[4:8] == _JP2:
        return _decoded_jpeg_2000(data, form)
    if syntax.startswith(_COMPRESSED):
        raise RejectedScan(Reason.CORRUPT)
    return _decoded_rle(data, form)


def _decoded_jpeg(data: bytes, form: PixelFormat) -> Frame:
    parts = list(jpeg.segments(data))
    header = jpeg.frame_header(parts)
    if (header.width, header.height) != (form.columns, form.rows) or jpeg.scans(parts) > MAX_JPEG_SCANS:
        raise RejectedScan(Reason.CORRUPT)
    if header.marker == _JPEG_LS:
        return Frame(imagecodecs.jpegls_decode(data).reshape(form.shape), header.precision)
    kept = jpeg.bare(parts)
    plain = jpeg.joined(kept)
    if header.precision == 8 and header.marker != _LOSSLESS:
        grey = simplejpeg.decode_jpeg(plain, "GRAY", strict=True)  # what libjpeg-turbo else only warns of is an error
        if form.samples == 1:
            return Frame(grey.reshape(form.shape), 8)
    if form.samples != 3:
        return Frame(imagecodecs.jpeg8_decode(plain).reshape(form.shape), header.precision)
    ycc = _is_ycc(header, jpeg.is_ycc(kept), form)
    values = imagecodecs.jpeg8_decode(plain, colorspace="YCBCR" if ycc else "RGB", outcolorspace="RGB")
    return Frame(values.reshape(form.shape), header.precision, is_rgb=True)


def _is_ycc(header: jpeg.FrameHeader, said: bool | None, form: PixelFormat) -> bool:
    """Whether three components are YCbCr: as the photometric interpretation says, unless the frame itself objects."""
    if header.marker == _LOSSLESS:
        return form.photometric.startswith("YBR")
    return form.photometric.startswith("YBR") if said is None else said


def _decoded_jpeg_2000(data: bytes, form: PixelFormat) -> Frame:
    at = _codestream(data)
    right, bottom, left, top = struct.unpack(">4I", data[at + 8 : at + 24])
    (components,) = struct.unpack(">H", data[at + 40 : at + 42])
    if (right - left, bottom - top, components) != (form.columns, form.rows, form.samples):
        raise RejectedScan(Reason.CORRUPT)
    values = imagecodecs.jpeg2k_decode(data, numthreads=1).reshape(form.shape)
    return Frame(values, (data[at + 42] & 127) + 1)


def _codestream(data: bytes) -> int:
    """Where a JPEG 2000 codestream starts, bare or in a JP2 file's boxes (ITU-T T.800, A.5.1 and I.4)."""
    if data.startswith(_JPEG_2000):
        return 0
    at = 0
    while data[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(data[at : at + 4])
        if length < 8:  # an empty box would be read for ever
            raise RejectedScan(Reason.CORRUPT)
        at += length
    return at + 8


def _decoded_rle(data: bytes, form: PixelFormat) -> Frame:
    """PS3.5, annex G: a segment for each byte of each sample, most significant first."""
    segments = form.samples * form.allocated // 8
    if len(data) < 64:
        raise RejectedScan(Reason.TRUNCATED)
    if form.allocated not in (8, 16, 32) or int.from_bytes(data[:4], "little") != segments:
        raise RejectedScan(Reason.CORRUPT)
    kind = np.dtype(f"<u{form.allocated // 8}")
    size = form.rows * form.columns * form.samples * kind.itemsize
    octets = imagecodecs.dicomrle_decode(data, kind, out=size)
    if len(octets) < size:
        raise RejectedScan(Reason.TRUNCATED)
    planes = np.frombuffer(octets, kind, form.rows * form.columns * form.samples)
    return Frame(np.moveaxis(planes.reshape(form.samples, form.rows, form.columns), 0, -1).reshape(form.shape))
