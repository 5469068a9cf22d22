import io
import logging
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode, encode_png
from shared.imaging.intensity import scaled
from shared.imaging.limits import MAX_BYTES, MAX_JPEG_SCANS, MAX_PAGES
from tests.shared.imaging.drawn import DEEP, GREY, HEIGHT, RGB, WIDTH, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:::pydicom")

LOSSLESS = [None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"]


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def page(content):
    (pixels,) = decode(content).pages
    return pixels


def reason(content):
    with pytest.raises(RejectedScan) as rejected:
        decode(content)
    return rejected.value.reason


# The formats


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_the_very_pixels(file_format, pixels):
    decoded = decode(saved(pixels, file_format))
    assert decoded.format == file_format
    assert np.array_equal(decoded.pages[0], pixels)
    assert decoded.pages[0].dtype == np.uint8


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_jpeg_gives_the_pixels_that_pillow_gives(pixels, progressive):
    content = saved(pixels, "JPEG", quality=90, progressive=progressive)
    assert np.array_equal(page(content), np.asarray(Image.open(io.BytesIO(content))))


def test_the_format_is_told_by_content_alone():
    formats = [decode(saved(GREY, name)).format for name in ("JPEG", "PNG", "BMP", "TIFF")]
    assert formats == ["JPEG", "PNG", "BMP", "TIFF"]


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1"])
def test_tiff_modes_and_compressions(mode, compression):
    content = saved(RGB, "TIFF", mode, compression=compression)
    expected = Image.open(io.BytesIO(content)).convert("L" if mode in ("L", "1") else "RGB")
    assert np.array_equal(page(content), np.asarray(expected))


def test_tiff_with_jpeg_and_fax_compression():
    assert np.abs(page(saved(GREY, "TIFF", compression="jpeg", quality=95)).astype(int) - GREY).max() < 12
    assert set(np.unique(page(saved(GREY, "TIFF", "1", compression="group4")))) == {0, 255}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f4", "f8"])
def test_deep_tiffs_are_scaled_whatever_their_layout(kind, tile, compression, order):
    values = DEEP.astype(kind) - (500 if kind[0] == "i" else 0)
    content = tiff(values, byteorder=order, compression=compression, tile=tile)
    assert np.array_equal(page(content), scaled(values))


def test_unsigned_32_bits_are_not_taken_for_signed_nor_signed_8_bits_for_unsigned():
    high = DEEP.astype(np.uint32) + (1 << 31) - 900
    assert np.array_equal(page(tiff(high)), scaled(high))
    signed = (GREY.astype(int) - 128).astype(np.int8)
    assert np.array_equal(page(tiff(signed)), scaled(signed))


@pytest.mark.parametrize("pixels", [GREY, DEEP, DEEP.astype(np.float32)], ids=["8 bits", "16 bits", "float"])
@pytest.mark.parametrize("order", "<>")
def test_white_is_zero_is_turned_round(pixels, order):
    white, black = (page(tiff(pixels, photometric=f"minis{colour}", byteorder=order)) for colour in ("white", "black"))
    assert np.array_equal(white, 255 - black)


def test_big_tiff_and_separate_planes():
    assert np.array_equal(page(tiff(DEEP, bigtiff=True)), scaled(DEEP))
    planes = tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(page(planes), RGB)


def test_every_page_of_a_tiff_is_a_page():
    pages = [GREY, 255 - GREY, GREY // 2]
    decoded = decode(tiff(np.stack(pages), photometric="minisblack"))
    assert [np.array_equal(got, sent) for got, sent in zip(decoded.pages, pages, strict=True)] == [True] * 3
    assert not decoded.passes_through


def test_colour_of_16_bits_keeps_its_upper_byte():
    colour = RGB.astype(np.uint16) * 257
    assert np.array_equal(page(tiff(colour, photometric="rgb")), RGB)


def test_cmyk_jpeg_becomes_rgb():
    content = saved(RGB, "JPEG", "CMYK", quality=95)
    assert np.array_equal(page(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_transparency_is_laid_on_black():
    alpha = np.full_like(GREY, 255)
    alpha[:30] = 0
    pixels = page(saved(np.dstack([RGB, alpha]), "PNG"))
    assert not pixels[:30].any()
    assert np.array_equal(pixels[30:], RGB[30:])


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied_once(file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = decode(saved(GREY, file_format, exif=exif))
    plain = page(saved(GREY, file_format))
    upright = [plain, plain[:, ::-1], plain[::-1, ::-1], plain[::-1], plain.T]
    upright += [np.rot90(plain, -1), plain[::-1, ::-1].T, np.rot90(plain)]
    assert np.array_equal(turned.pages[0], upright[orientation - 1])
    assert not turned.passes_through


# What may be kept as it is


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_plain_jpeg_and_png_pass_through(file_format, pixels):
    assert decode(saved(pixels, file_format)).passes_through


@pytest.mark.parametrize(
    "content",
    [
        saved(GREY, "BMP"),
        saved(GREY, "TIFF"),
        saved(RGB, "JPEG", "CMYK"),
        saved(DEEP, "PNG"),
        saved(GREY, "PNG", "1"),
        saved(RGB, "PNG", "P"),
        saved(RGB, "PNG", "RGBA"),
        saved(GREY, "PNG", transparency=3),
    ],
    ids=["bmp", "tiff", "cmyk", "16 bits", "1 bit", "palette", "alpha", "transparent grey"],
)
def test_all_else_becomes_another_file(content):
    assert not decode(content).passes_through


def test_png_keeps_pixels_and_nothing_else():
    for pixels in (GREY, RGB):
        png = encode_png(pixels)
        assert np.array_equal(page(png), pixels)
        assert decode(png).passes_through
        assert not Image.open(io.BytesIO(png)).info
        assert encode_png(pixels) == png


# The rule for deep values


def test_a_few_dead_pixels_leave_the_tissue_its_contrast():
    values = np.tile(np.arange(1000, dtype=np.uint16), (100, 1))
    values[0, :3] = 65535
    pixels = scaled(values)
    assert 125 <= pixels[50, 500] <= 130
    assert pixels.max() == 255


def test_values_are_scaled_between_percentiles():
    low, high = np.percentile(DEEP, (0.5, 99.5))
    expected = np.rint(np.clip((DEEP - low) / (high - low), 0, 1) * 255)
    assert np.abs(scaled(DEEP) - expected).max() <= 1


def test_a_small_spot_on_an_empty_page_is_not_lost():
    values = np.zeros((100, 100), np.float32)
    values[50, 50:55] = 3
    assert scaled(values).max() == 255


def test_what_is_not_a_number_is_black():
    values = DEEP.astype(np.float64)
    values[:3], values[3], values[4] = np.nan, np.inf, -np.inf
    pixels = scaled(values)
    assert not pixels[:3].any()
    assert (pixels[3] == 255).all()
    assert not pixels[4].any()
    assert np.abs(pixels[8:].astype(int) - scaled(DEEP)[8:]).max() <= 10


def test_the_widest_range_is_no_overflow():
    values = np.full((64, 64), -1.7e308)
    values[:32] = 1.7e308
    assert scaled(values).dtype == np.uint8


def test_large_pages_are_scaled_as_small_ones():
    values = np.tile(DEEP, (30, 20))
    assert np.array_equal(scaled(values)[:HEIGHT, :WIDTH], scaled(values)[-HEIGHT:, -WIDTH:])
    assert np.array_equal(scaled(values, (100, 900))[:HEIGHT, :WIDTH], scaled(DEEP, (100, 900)))


# Limits


def test_nothing_is_empty():
    assert reason(b"") is Reason.EMPTY


@pytest.mark.parametrize("content", [b"hello, doctor\n" * 99, b"<svg/>", b"\0" * 999, b"x", bytes(range(256)) * 9])
def test_what_is_not_an_image(content):
    assert reason(content) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "JPEG2000", "ICO", "PPM"])
def test_other_images_are_unsupported(file_format):
    assert reason(saved(RGB, file_format)) is Reason.UNSUPPORTED_FORMAT


def test_half_floats_are_unsupported():
    assert reason(tiff(GREY.astype(np.float16))) is Reason.UNSUPPORTED_FORMAT


def test_too_large_a_file_is_not_even_looked_at():
    assert reason(saved(GREY, "PNG") + bytes(MAX_BYTES)) is Reason.TOO_LARGE


def png_claiming(width, height):
    plain = saved(GREY, "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + plain[24:29]
    return plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]


@pytest.mark.parametrize(
    "content",
    [
        png_claiming(10_000, 5_001),
        saved(np.zeros((7100, 7100), np.uint8), "JPEG"),
        saved(np.zeros((7100, 7100), np.uint8), "TIFF", compression="tiff_deflate"),
        tiff(np.zeros((51, 1000, 1000), np.uint8), photometric="minisblack", compression="zlib"),
    ],
    ids=["png", "jpeg", "tiff", "pages together"],
)
def test_too_many_pixels(content):
    assert reason(content) is Reason.TOO_MANY_PIXELS


def test_too_many_pages():
    pages = np.tile(GREY[:32, :32], (MAX_PAGES + 1, 1, 1))
    assert reason(tiff(pages, photometric="minisblack")) is Reason.TOO_MANY_PAGES
    assert len(decode(tiff(pages[:-1], photometric="minisblack")).pages) == MAX_PAGES


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_side_under_32_pixels_is_too_small(file_format):
    assert reason(saved(GREY[:31], file_format)) is Reason.TOO_SMALL
    assert reason(saved(GREY[:, :31], file_format)) is Reason.TOO_SMALL
    assert decode(saved(GREY[:32, :32], file_format)).pages[0].shape == (32, 32)


def test_animations_are_refused():
    frames = [Image.fromarray(255 - GREY)]
    assert reason(saved(GREY, "PNG", save_all=True, append_images=frames)) is Reason.ANIMATED


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_value_everywhere_is_blank(value):
    flat = np.full_like(GREY, value)
    assert reason(saved(flat, "PNG")) is Reason.BLANK
    assert reason(saved(flat, "JPEG")) is Reason.BLANK
    assert reason(tiff(flat.astype(np.uint16) * 3)) is Reason.BLANK


def test_an_empty_slice_among_others_is_kept():
    pages = np.stack([np.zeros_like(GREY), GREY])
    assert len(decode(tiff(pages, photometric="minisblack")).pages) == 2
    assert reason(tiff(np.zeros_like(pages), photometric="minisblack")) is Reason.BLANK


# Damaged and hostile files


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_a_cut_file_is_truncated(file_format, cut):
    content = saved(RGB, file_format)
    assert reason(content[: int(len(content) * cut)]) is Reason.TRUNCATED


def test_a_jpeg_without_its_end_is_truncated_and_so_is_one_that_ends_too_early():
    content = saved(RGB, "JPEG")
    assert reason(content[:-2]) is Reason.TRUNCATED
    assert reason(content[: len(content) // 2] + b"\xff\xd9") in (Reason.TRUNCATED, Reason.CORRUPT)


def test_a_png_without_its_end_is_truncated():
    assert reason(saved(RGB, "PNG")[:-12]) is Reason.TRUNCATED


def test_a_tiff_whose_pixels_lie_beyond_its_end_is_truncated():
    content = saved(GREY, "TIFF")
    lengths = content.index(struct.pack("<HHI", 279, 4, 1)) + 8
    assert reason(content[:lengths] + struct.pack("<I", len(content)) + content[lengths + 4 :]) is Reason.TRUNCATED


def test_a_tiff_whose_second_page_is_damaged_is_refused_whole():
    content = bytearray(tiff(np.stack([GREY, GREY]), photometric="minisblack", compression="zlib"))
    content[-len(content) // 4 :] = bytes(len(content) // 4 + 1)
    assert reason(bytes(content))


def test_a_tiff_whose_strips_overlap_is_corrupt():
    content = tiff(GREY, rowsperstrip=36)
    offsets = struct.pack("<2I", *tifffile.TiffFile(io.BytesIO(content)).pages[0].dataoffsets)
    first = struct.unpack("<I", offsets[:4])[0]
    assert reason(content.replace(offsets, struct.pack("<2I", first, first + 8))) is Reason.CORRUPT


def tiff_header(count, entries):
    tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, count) + tags + bytes(4)


def test_a_tiff_of_millions_of_strips_is_refused_at_once():
    strips, start = 1 << 20, 8 + 2 + 9 * 12 + 4
    entries = [(256, 4, 1, 1000), (257, 4, 1, 1000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, strips, start), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, strips, start + 4 * strips)]
    assert reason(tiff_header(9, entries) + b"\1\0\0\0" * 2 * strips) is Reason.CORRUPT


def test_a_tiff_with_a_tile_of_gigabytes_is_refused():
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries += [(322, 4, 1, 65520), (323, 4, 1, 32000), (324, 4, 1, 8), (325, 4, 1, 100)]
    assert reason(tiff_header(10, entries)) is Reason.CORRUPT


def test_a_jpeg_of_endless_scans_is_refused():
    content = saved(GREY, "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    assert reason(content[:-2] + scan * MAX_JPEG_SCANS + b"\xff\xd9") is Reason.CORRUPT


def test_lack_of_memory_is_not_the_files_fault(monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", exhausted)
    with pytest.raises(MemoryError):
        decode(saved(GREY, "JPEG"))


SEEDS = {
    "jpeg": saved(RGB, "JPEG"),
    "progressive": saved(GREY, "JPEG", progressive=True),
    "cmyk": saved(RGB, "JPEG", "CMYK"),
    "png": saved(RGB, "PNG"),
    "16-bit png": saved(DEEP, "PNG"),
    "bmp": saved(RGB, "BMP"),
    "run-length bmp": saved(RGB, "BMP", "P"),
    "tiff": saved(RGB, "TIFF"),
    "lzw": saved(DEEP, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": saved(RGB, "TIFF", compression="jpeg"),
    "packbits": saved(RGB, "TIFF", "P", compression="packbits"),
    "fax": saved(RGB, "TIFF", "1", compression="group4"),
    "tiles": tiff(DEEP, tile=(32, 32), compression="zlib"),
    "pages": tiff(np.stack([GREY, GREY]), photometric="minisblack", bigtiff=True),
}


def survives(content):
    """Accepted or refused with a reason; any other exception fails the test."""
    try:
        return decode(content)
    except RejectedScan:
        return None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.floats(0.01, 0.97))
def test_a_file_cut_anywhere_is_refused(seed, part):
    content = SEEDS[seed]
    assert survives(content[: int(len(content) * part)]) is None


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(SEEDS)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=9)
)
def test_flipped_bytes_are_accepted_or_refused_but_never_raise(seed, flips):
    content = bytearray(SEEDS[seed])
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    survives(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b""]), st.binary())
@example(b"II*\0\x08\0\0\0", b"")
def test_noise_behind_a_signature_is_refused(signature, noise):
    assert survives(signature + noise) is None


def test_every_malformed_file_is_refused(data):
    files = [path for path in sorted((data / "malformed").rglob("*")) if path.is_file()]
    assert len(files) == 130
    accepted = [path.name for path in files if survives(path.read_bytes())]
    assert accepted == []


def test_every_real_scan_is_accepted(data):
    files = [
        path
        for path in sorted(data.rglob("*"))
        if path.suffix.lower() in (".jpg", ".png", ".dcm") and "files" not in path.relative_to(data).parts
    ]
    assert len(files) > 5000
    refused = [path.name for path in files if not survives(path.read_bytes())]
    assert refused == []


# What is imported


def test_importing_decoding_loads_neither_pydicom_nor_opencv():
    loaded = "import sys, shared.imaging.decoding; print({'pydicom', 'cv2', 'tensorflow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == "set()"


def test_pillow_keeps_its_own_limits():
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert logging.getLogger("PIL").level == logging.NOTSET
