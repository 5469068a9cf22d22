"""JPEG and PNG that pass through keep their picture bit for bit and nothing that could name a patient."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from shared.imaging.decoding import decode
from tests.shared.imaging.drawn import GREY, RGB, saved

MARKER = "Hypatia^Alexandria"


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def exif(orientation=1):
    block = Image.Exif()
    block[0x010E], block[0x013B], block[0x0112] = MARKER, MARKER, orientation
    return block.tobytes()


NAME = MARKER.encode()
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><dc:title>" + NAME + b"</dc:title></x:xmpmeta>"
IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 5 + len(NAME)) + b"\x1c\x02\x78\0\x12" + NAME
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB built-in", NAME[:13])
JPEG_PLACES = {
    "comment": segment(0xFE, NAME),
    "EXIF": segment(0xE1, exif()),
    "XMP": segment(0xE1, XMP),
    "ICC profile": segment(0xE2, b"ICC_PROFILE\0\x01\x01" + ICC + NAME),
    "IPTC": segment(0xED, IPTC),
    "Adobe segment, drawn out": segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + NAME),
    "JFIF thumbnail": segment(0xE0, b"JFXX\0\x10" + NAME),
    **{f"APP{number}": segment(0xE0 + number, NAME) for number in range(1, 16)},
    "between segments": NAME,
}
PNG_PLACES = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + NAME),
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(NAME)),
    "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + NAME),
    "eXIf": chunk(b"eXIf", exif()[6:]),
    "tIME": chunk(b"tIME", bytes(7)),
    "iCCP": chunk(b"iCCP", NAME + b"\0\0" + zlib.compress(ICC)),
    "private": chunk(b"naMe", NAME),
    "suggested palette": chunk(b"sPLT", NAME + b"\0\x08"),
}


@pytest.mark.parametrize("place", JPEG_PLACES)
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_jpeg_loses_what_could_name_and_keeps_its_coded_picture(pixels, place):
    plain = saved(pixels, "JPEG", quality=90)
    named = plain[:20] + JPEG_PLACES[place] + plain[20:] + NAME  # behind JFIF's segment, and behind the end
    decoded = decode(named)
    assert decoded.stripped is not None
    assert NAME not in decoded.stripped
    assert b"Hypatia" not in decoded.stripped
    assert decoded.stripped[-1000:] == plain[-1000:]
    assert np.array_equal(decode(decoded.stripped).pages[0], decoded.pages[0])
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(decoded.stripped))), np.asarray(Image.open(io.BytesIO(named)))
    )


@pytest.mark.parametrize("place", PNG_PLACES)
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_png_loses_what_could_name_and_keeps_its_coded_picture(pixels, place):
    plain = saved(pixels, "PNG")
    decoded = decode(plain[:33] + PNG_PLACES[place] + plain[33:] + NAME)
    assert decoded.stripped == plain
    assert np.array_equal(decoded.pages[0], pixels)


def test_what_holds_nothing_but_a_picture_is_kept_to_the_byte():
    for content in (saved(RGB, "JPEG"), saved(GREY, "JPEG", progressive=True), saved(RGB, "PNG"), saved(GREY, "PNG")):
        assert decode(content).stripped == content


def test_the_colour_transform_that_decoding_needs_is_kept():
    plain = saved(RGB, "JPEG", quality=95, subsampling=0)
    as_rgb = plain[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0") + plain[20:]  # components are R, G and B, not YCbCr
    decoded = decode(as_rgb)
    assert b"Adobe" in decoded.stripped
    assert np.array_equal(decode(decoded.stripped).pages[0], np.asarray(Image.open(io.BytesIO(as_rgb))))
    assert not np.array_equal(decoded.pages[0], decode(plain).pages[0])


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_picture_that_is_turned_becomes_a_new_file_without_names(file_format):
    options = {"exif": exif(orientation=6)}
    if file_format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", MARKER)
    decoded = decode(saved(GREY, file_format, **options))
    assert decoded.stripped is None
    assert decoded.pages[0].shape == GREY.T.shape


def test_damage_in_a_comment_or_profile_is_not_damage_of_the_picture():
    plain = saved(GREY, "PNG")
    bad_text = chunk(b"tEXt", b"Comment\0hello")[:-1] + b"\0"
    assert np.array_equal(decode(plain[:33] + bad_text + plain[33:]).pages[0], GREY)
    jpeg = saved(GREY, "JPEG")
    bad_profile = segment(0xE2, b"ICC_PROFILE\0\x07\x02" + b"\0" * 40)
    assert np.array_equal(decode(jpeg[:20] + bad_profile + jpeg[20:]).pages[0], decode(jpeg).pages[0])
