"""JPEG, PNG and BMP to pixels."""

import io

import numpy as np
import simplejpeg
from imagecodecs import png_decode
from PIL import BmpImagePlugin, ExifTags, Image, JpegImagePlugin, PngImagePlugin

from shared.errors import Reason, RejectedScan
from shared.imaging import jpeg, png
from shared.imaging.geometry import aspect_of, square_pixels, squared_size, upright
from shared.imaging.intensity import Pixels, eight_bit, over_black, scaled
from shared.imaging.limits import MAX_JPEG_SCANS, check_size, decoder_calls

_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def read_jpeg(content: bytes) -> tuple[Pixels, bytes | None]:
    """Return the page and, if it is an upright 8-bit grey or RGB picture of square pixels, the file without metadata.

    What is decoded is the file without metadata, so that damage in an ICC profile, a comment or between two segments is
    not damage of the picture. simplejpeg's strict mode: what libjpeg-turbo only warns of, short and damaged data, is an
    error. Raises RejectedScan.
    """
    with decoder_calls():
        parts = list(jpeg.segments(content))
        kept = jpeg.bare(parts)
        across, down = jpeg.density(kept)
    stripped = jpeg.stripped(content, parts, kept)
    with decoder_calls():
        height, width, colours, _ = simplejpeg.decode_jpeg_header(stripped)
    aspect = aspect_of(across, down)
    _check(width, height, aspect)
    if jpeg.scans(kept) > MAX_JPEG_SCANS:
        raise RejectedScan(Reason.CORRUPT)
    wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
    with decoder_calls():
        pixels: Pixels = simplejpeg.decode_jpeg(stripped, wanted, strict=True)
        if wanted == "CMYK":
            pixels = _page(JpegImagePlugin.JpegImageFile(io.BytesIO(stripped)))
        orientation = _orientation(jpeg.exif(parts))
    page = pixels[:, :, 0] if wanted == "GRAY" else pixels
    plain = wanted != "CMYK" and orientation == 1 and aspect == 1
    return upright(square_pixels(page, aspect), orientation), stripped if plain else None


def read_png(content: bytes) -> tuple[Pixels, bytes | None]:
    """Return the page and, if it is an upright 8-bit grey or RGB picture of square pixels, the file without metadata.

    What is decoded is the file without metadata. Raises RejectedScan.
    """
    with decoder_calls():
        parts = list(png.chunks(content))
        width, height, depth, colour_type = np.frombuffer(png.first(parts, b"IHDR"), ">u4,>u4,u1,u1", 1)[0].tolist()
        aspect = aspect_of(*png.density(parts))
        orientation = _orientation(png.first(parts, b"eXIf"))
    if png.is_animated(parts):
        raise RejectedScan(Reason.ANIMATED)
    _check(width, height, aspect)
    stripped = png.joined(parts, *_PICTURE_CHUNKS)
    plain = (depth, colour_type) in ((8, 0), (8, 2)) and not png.first(parts, b"tRNS")
    with decoder_calls():
        if depth == 16:
            page = _deep_png(png.joined(parts, b"IHDR", b"IDAT", b"IEND"))
        elif plain:
            page = png_decode(stripped)
        else:
            page = _page(PngImagePlugin.PngImageFile(io.BytesIO(stripped)))
    pixels = upright(square_pixels(page, aspect), orientation)
    return pixels, stripped if plain and orientation == 1 and aspect == 1 else None


def read_bmp(content: bytes) -> Pixels:
    """Return the page. Raises RejectedScan."""
    with decoder_calls():
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(content))
    check_size(*image.size)
    with decoder_calls():
        return _page(image)


def encode_png(pixels: Pixels) -> bytes:
    """Return the PNG of uint8 (h, w) or (h, w, 3) pixels, and of nothing else."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _check(width: int, height: int, aspect: float) -> None:
    check_size(width, height)
    check_size(*squared_size(width, height, aspect))


def _orientation(block: bytes | None) -> int:
    """Orientation in a block of EXIF; 1 without one."""
    if not block:
        return 1
    exif = Image.Exif()
    exif.load(block)
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1


def _page(image: Image.Image) -> Pixels:
    """8-bit pixels of a picture of any mode; transparent parts are laid on black, as air is in a scan."""
    image.load()
    if image.has_transparency_data:
        layers = np.asarray(image.convert("RGBA"))
        grey = (layers[..., 1:3] == layers[..., :1]).all()
        return over_black(layers[..., 0] if grey else layers[..., :3], layers[..., 3])
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def _deep_png(content: bytes) -> Pixels:
    """The page of a PNG of 16 bits a channel, which Pillow cuts to 8."""
    values = png_decode(content)
    if values.ndim == 2:
        return scaled(values)
    channels = values.shape[2]
    page = scaled(values[..., 0]) if channels == 2 else eight_bit(values[..., :3])
    return over_black(page, values[..., -1]) if channels in (2, 4) else page
