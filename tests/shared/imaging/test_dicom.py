import io
import logging
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode, encode_png
from shared.imaging.intensity import scaled
from shared.imaging.limits import MAX_JPEG_SCANS, MAX_PAGES
from tests.shared.imaging.drawn import DEEP, GREY, PATIENT, compressed, dataset, dicom, written
from tests.support.compressed import compress

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:::pydicom")


def page(content):
    (pixels,) = decode(content).pages
    return pixels


def reason(content):
    with pytest.raises(RejectedScan) as rejected:
        decode(content)
    return rejected.value.reason


# Transfer syntaxes


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_uncompressed_syntaxes(syntax):
    decoded = decode(dicom(DEEP, syntax=syntax))
    assert decoded.format == "DICOM"
    assert not decoded.passes_through
    assert np.array_equal(decoded.pages[0], scaled(DEEP))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("values", [GREY, DEEP, np.dstack([GREY] * 3)], ids=["8 bits", "16 bits", "colour"])
def test_lossless_syntaxes(syntax, values):
    made = dataset(values)
    compress(made, syntax)
    assert np.array_equal(page(written(made)), values if values.dtype == np.uint8 else scaled(values))


def test_jpeg_baseline():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG", quality=95)
    pixels = page(compressed([file.getvalue()], JPEGBaseline8Bit))
    assert np.abs(pixels.astype(int) - GREY).max() < 12


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("JPGExtended.dcm", "1.2.840.10008.1.2.4.51"),
        ("SC_rgb_jpeg_gdcm.dcm", "1.2.840.10008.1.2.4.70"),
        ("MR_small_jpeg_ls_lossless.dcm", "1.2.840.10008.1.2.4.80"),
        ("SC_rgb_jls_lossy_line.dcm", "1.2.840.10008.1.2.4.81"),
        ("JPEG2000.dcm", "1.2.840.10008.1.2.4.91"),
        ("GDCMJ2K_TextGBR.dcm", "1.2.840.10008.1.2.4.90"),
        ("examples_palette.dcm", ExplicitVRLittleEndian),
        ("SC_ybr_full_422_uncompressed.dcm", ExplicitVRLittleEndian),
    ],
)
def test_files_of_other_makers_that_pydicom_ships(name, syntax):
    content = Path(get_testdata_file(name, download=False)).read_bytes()
    made = dcmread(io.BytesIO(content))
    assert made.file_meta.TransferSyntaxUID == syntax
    pixels = page(content)
    assert pixels.shape[:2] == (made.Rows, made.Columns)
    assert pixels.std() > 10


def test_jpeg_ls_gives_the_pixels_of_the_uncompressed_file():
    files = [get_testdata_file(name, download=False) for name in ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm")]
    plain, packed = (page(Path(file).read_bytes()) for file in files)
    assert np.array_equal(plain, packed)


# How a viewer shows it


def test_monochrome1_is_inverted():
    assert np.array_equal(page(dicom(GREY, PhotometricInterpretation="MONOCHROME1")), 255 - GREY)
    assert np.array_equal(page(dicom(DEEP, PhotometricInterpretation="MONOCHROME1")), 255 - scaled(DEEP))


def test_rescale_comes_before_the_window():
    rescaled = dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=600, WindowWidth=401)
    values = DEEP * 2.0 - 1000
    expected = np.clip((values - 599.5) / 400 + 0.5, 0, 1) * 255
    assert np.abs(page(rescaled) - expected).max() <= 1
    assert {0, 255} <= set(np.unique(page(rescaled)))


def test_a_negative_slope_turns_the_values_round():
    turned = page(dicom(DEEP, RescaleSlope=-1, RescaleIntercept=0))
    assert np.abs(turned.astype(int) - scaled(-DEEP.astype(float))).max() <= 1
    window = {"WindowCenter": -1000, "WindowWidth": 1200}
    shown = page(dicom(DEEP, RescaleSlope=-1, RescaleIntercept=0, **window)).astype(int)
    assert shown[0, 0] > shown[-1, -1]


def test_the_first_of_several_windows_is_applied():
    several = dicom(DEEP, WindowCenter=[900, 30], WindowWidth=[800, 20])
    assert np.array_equal(page(several), page(dicom(DEEP, WindowCenter=900, WindowWidth=800)))


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"WindowWidth": 0.2}, {"WindowWidth": None}, {}])
def test_a_window_that_is_none_leaves_the_usual_rule(window):
    assert np.array_equal(page(dicom(DEEP, WindowCenter=900, **window)), scaled(DEEP))


def test_sigmoid_and_exact_windows():
    window = {"WindowCenter": 900, "WindowWidth": 600}
    values = DEEP.astype(float)
    sigmoid = page(dicom(DEEP, VOILUTFunction="SIGMOID", **window))
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4 * (values - 900) / 600))).max() <= 1
    exact = page(dicom(DEEP, VOILUTFunction="LINEAR_EXACT", **window))
    assert np.abs(exact - np.clip((values - 900) / 600 + 0.5, 0, 1) * 255).max() <= 1


def test_signed_and_12_bit_values():
    signed = DEEP.astype(np.int16) - 700
    assert np.array_equal(page(dicom(signed)), scaled(signed))
    assert np.array_equal(page(dicom(DEEP, BitsStored=12, HighBit=11)), scaled(DEEP))


def test_floating_point_pixels():
    made = dataset(DEEP.astype(np.float32))
    made.FloatPixelData = made.PixelData
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, keyword)
    assert np.array_equal(page(written(made)), scaled(DEEP))


def test_a_frame_each_with_its_own_window():
    made = dataset(np.stack([DEEP, DEEP]), 2)
    rescale, windows = Dataset(), []
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 0
    for center in (500, 1500):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 400
        group = Dataset()
        group.FrameVOILUTSequence = Sequence([window])
        windows.append(group)
    shared = Dataset()
    shared.PixelValueTransformationSequence = Sequence([rescale])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(windows)
    first, second = decode(written(made)).pages
    assert np.array_equal(first, page(dicom(DEEP, WindowCenter=500, WindowWidth=400)))
    assert np.array_equal(second, page(dicom(DEEP, WindowCenter=1500, WindowWidth=400)))


def test_every_frame_is_a_page():
    values = np.stack([GREY, 255 - GREY, GREY // 2])
    assert np.array_equal(decode(dicom(values, 3)).pages, values)


# Privacy


def test_no_name_leaves_with_the_pixels():
    png = encode_png(page(dicom(DEEP)))
    for name in PATIENT.split("^"):
        assert name.encode() in dicom(DEEP)
        assert name.encode() not in png
    assert not Image.open(io.BytesIO(png)).info


NAMED = [
    dicom(DEEP).replace(b"MONOCHROME2 ", b"HYPATIA ALEX"),
    dicom(DEEP).replace(b"\x28\0\x10\0US", b"\x28\0\x10\0XX"),
    dicom(DEEP)[:-500],
    dicom(DEEP, StudyDate="20200101").replace(b"20200101", b"Hypatia!"),
    dicom(DEEP, WindowCenter="1", WindowWidth="5555555").replace(b"5555555", b"Hypatia"),
    dicom(np.stack([GREY]), 1, NumberOfFrames="1234567").replace(b"1234567", b"Hypatia"),
]


@pytest.mark.parametrize("content", NAMED)
def test_no_name_is_said_logged_or_warned_of(content, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    try:
        decode(content)
    except RejectedScan as rejected:
        assert "patia" not in str(rejected).lower()
        assert rejected.__suppress_context__ or not rejected.__context__
    said = capfd.readouterr()
    assert "patia" not in (said.out + said.err + caplog.text).lower()


def test_pydicom_warns_of_nothing_in_a_fresh_process(tmp_path):
    for number, content in enumerate(NAMED):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    script = """
import logging, pathlib, sys
logging.basicConfig(level=logging.DEBUG)
from shared.imaging.decoding import decode
from shared.errors import RejectedScan
for file in pathlib.Path(sys.argv[1]).iterdir():
    try:
        decode(file.read_bytes())
    except RejectedScan:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "patia" not in (done.stdout + done.stderr).lower()


# Limits, damaged and hostile files


def test_limits():
    assert reason(dicom(GREY[:31])) is Reason.TOO_SMALL
    assert reason(dicom(np.zeros_like(DEEP))) is Reason.BLANK
    assert reason(dicom(GREY, Rows=65535, Columns=65535)) is Reason.TOO_MANY_PIXELS
    assert reason(dicom(GREY, NumberOfFrames=MAX_PAGES + 1)) is Reason.TOO_MANY_PAGES
    assert reason(dicom(GREY, NumberOfFrames=2)) is Reason.TRUNCATED
    assert reason(dicom(GREY)[:-100]) is Reason.TRUNCATED


def test_a_report_without_pixels_is_not_an_image():
    made = dataset(GREY)
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(made, keyword)
    assert reason(written(made)) is Reason.NOT_AN_IMAGE


def test_an_unknown_transfer_syntax_is_unsupported():
    made = dataset(GREY)
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2
    made.PixelData = encapsulate([b"\0" * 64])
    assert reason(written(made)) is Reason.UNSUPPORTED_FORMAT


def test_a_deflated_file_is_not_inflated_beyond_the_limit():
    made = dataset(GREY, syntax=DeflatedExplicitVRLittleEndian)
    made.PixelData = bytes(200 * 2**20)
    bomb = written(made)
    assert reason(bomb) is Reason.TOO_LARGE_VOLUME


@pytest.mark.parametrize(
    ("syntax", "options"),
    [
        (JPEGBaseline8Bit, {"format": "JPEG"}),
        (JPEG2000Lossless, {"format": "JPEG2000", "no_jp2": True}),
        (JPEG2000Lossless, {"format": "JPEG2000"}),
    ],
    ids=["jpeg", "codestream", "jp2"],
)
def test_a_frame_larger_than_the_file_says_is_not_decoded(syntax, options):
    right, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(GREY).save(right, **options)
    Image.fromarray(np.tile(GREY, (2, 1))).save(large, **options)
    assert page(compressed([right.getvalue()], syntax)).shape == GREY.shape
    assert reason(compressed([large.getvalue()], syntax)) is Reason.CORRUPT


def test_an_empty_box_before_a_codestream_does_not_loop_for_ever():
    boxes = struct.pack(">I4sI", 12, b"jP  ", 0x0D0A870A) + bytes(64)
    assert reason(compressed([boxes], JPEG2000Lossless)) is Reason.CORRUPT


def test_a_frame_of_endless_scans_is_refused():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG", progressive=True)
    frame = file.getvalue()
    scan = frame[frame.rindex(b"\xff\xda") : -2]
    assert reason(compressed([frame[:-2] + scan * MAX_JPEG_SCANS + b"\xff\xd9"], JPEGBaseline8Bit)) is Reason.CORRUPT


def test_frames_beyond_those_declared_are_not_decoded():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG")
    assert len(decode(compressed([file.getvalue()] * 5, JPEGBaseline8Bit, NumberOfFrames=2)).pages) <= 2


def test_deeply_nested_sequences_are_refused():
    start = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    whole = dicom(GREY)
    assert reason(whole[: whole.index(b"\x28\0\x02\0")] + start * 100_000)


SHIPPED = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"]
SEEDS = [dicom(DEEP), dicom(np.stack([GREY, GREY]), 2)]
SEEDS += [Path(get_testdata_file(name, download=False)).read_bytes() for name in SHIPPED]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=9), st.floats(0.05, 1)
)
def test_damaged_files_are_accepted_or_refused_but_never_raise(seed, flips, kept):
    content = bytearray(seed)
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(RejectedScan):
            decode(bytes(content[: int(len(content) * kept)]))


def test_every_real_dicom_file_is_accepted(data):
    files = sorted((data / "dicom").rglob("*.dcm"))
    assert len(files) == 70
    for file in files:
        assert page(file.read_bytes()).std() > 10
