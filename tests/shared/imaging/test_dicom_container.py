"""Data sets without preamble, meta header or transfer syntax, and encapsulated pixels as writers leave them."""

import io
import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode
from shared.imaging.intensity import scaled
from shared.imaging.limits import MAX_BYTES
from tests.shared.imaging.drawn import DEEP, GREY, RGB, compressed, dataset, dicom, saved, written

DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def page(content):
    (pixels,) = decode(content).pages
    return pixels


def reason(content):
    with pytest.raises(RejectedScan) as rejected:
        decode(content)
    return rejected.value.reason


def bare(made, *, implicit=False, little=True):
    """The data set alone, as Siemens and others store it."""
    file = io.BytesIO()
    del made.file_meta
    dcmwrite(file, made, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    content = file.getvalue()
    assert content[128:132] != b"DICM"
    return content


@pytest.mark.parametrize("implicit", [False, True])
def test_a_bare_data_set_is_dicom(implicit):
    decoded = decode(bare(dataset(DEEP), implicit=implicit))
    assert decoded.format == "DICOM"
    assert np.array_equal(decoded.pages[0], scaled(DEEP))


def test_a_bare_data_set_in_big_endian():
    values = DEEP.astype(">u2")
    assert np.array_equal(page(bare(dataset(values, syntax=ExplicitVRBigEndian), little=False)), scaled(DEEP))


def test_a_file_without_its_preamble():
    assert np.array_equal(page(dicom(DEEP)[132:]), scaled(DEEP))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_its_transfer_syntax(syntax):
    content = dicom(DEEP, syntax=syntax)
    at = content.index(b"\x02\0\x10\0UI")
    size = 8 + struct.unpack("<H", content[at + 6 : at + 8])[0]
    assert np.array_equal(page(content[:at] + content[at + size :]), scaled(DEEP))


def test_pixels_without_their_delimiter_are_whole():
    content = compressed([saved(GREY, "JPEG")], JPEGBaseline8Bit)
    assert content.endswith(DELIMITER)
    assert np.array_equal(page(content[:-8]), page(content))


@pytest.mark.parametrize("cut", [20, 200, 600])
def test_encapsulated_pixels_that_are_cut_are_truncated(cut):
    content = compressed([saved(GREY, "JPEG")], JPEGBaseline8Bit)
    assert reason(content[:-cut]) is Reason.TRUNCATED


def test_a_header_that_is_cut_is_truncated():
    content = dicom(DEEP, SeriesDescription="t1 mprage sagittal")
    assert reason(content[: content.index(b"mprage")]) is Reason.TRUNCATED


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "no offset table"])
def test_frames_of_several_fragments(table):
    frames = [saved(GREY, "JPEG"), saved(255 - GREY, "JPEG")]
    made = dataset(np.zeros(GREY.shape, np.uint8), NumberOfFrames=2)
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=table)
    found = decode(written(made)).pages
    assert all(np.array_equal(one, decode(frame).pages[0]) for one, frame in zip(found, frames, strict=True))


def test_encapsulated_pixels_under_a_native_syntax():
    content = compressed([saved(GREY, "JPEG")], JPEGBaseline8Bit)
    native = content.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0")
    assert np.array_equal(page(native), page(content))


@pytest.mark.parametrize(
    ("encode", "syntax"),
    [
        (lambda values: imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k"), JPEG2000Lossless),
        (imagecodecs.jpegls_encode, JPEGLSLossless),
        (imagecodecs.ljpeg_encode, JPEGLosslessSV1),
    ],
    ids=["JPEG 2000", "JPEG-LS", "lossless JPEG"],
)
@pytest.mark.parametrize("overlay", [False, True])
def test_lossless_codecs_give_the_stored_values(encode, syntax, overlay):
    """With something in the bits above BitsStored, too."""
    values = DEEP | np.uint16(0x8000) if overlay else DEEP
    made = dataset(np.zeros_like(DEEP), BitsStored=12, HighBit=11)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([bytes(encode(values))])
    assert np.array_equal(page(written(made)), scaled(DEEP))


@pytest.mark.parametrize("values", [GREY, DEEP, RGB], ids=["8 bits", "16 bits", "colour"])
def test_run_length_frames(values):
    made = dataset(values)
    made.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(page(written(made)), values if values.dtype == np.uint8 else scaled(values))


def test_sequential_jpeg_whose_spectrum_ends_at_0():
    frame = saved(GREY, "JPEG")
    scan = frame.index(b"\xff\xda")
    broken = bytearray(frame)
    broken[scan + 8] = 0
    assert np.array_equal(page(compressed([bytes(broken)], JPEGBaseline8Bit)), decode(frame).pages[0])
    assert np.array_equal(page(bytes(broken)), decode(frame).pages[0])


def test_a_jpeg_frame_cut_before_its_end_marker_is_truncated():
    frame = saved(GREY, "JPEG")
    assert reason(compressed([frame[: len(frame) // 2]], JPEGExtended12Bit)) is Reason.TRUNCATED


def test_an_enhanced_object_of_200_slices_is_a_series_within_bounded_memory():
    slices, side = 200, 512
    ramp = (np.add.outer(np.arange(side), np.arange(side)) % 900).astype(np.uint16)
    made = dataset(np.zeros((1, side, side), np.uint16), 1)
    made.NumberOfFrames = slices
    made.PixelData = b"".join((ramp + index).tobytes() for index in range(slices))
    groups = []
    for index in range(slices):
        place = Dataset()
        place.ImagePositionPatient = [0, 0, index * 1.5]
        group = Dataset()
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    orientation, shared = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = Sequence([orientation])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    content = written(made)
    del made
    assert len(content) > MAX_BYTES
    tracemalloc.start()
    decoded = decode(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(decoded.pages) == slices
    assert decoded.attributes.slice_positions_mm == tuple(index * 1.5 for index in range(slices))
    assert peak < len(content) + slices * side * side + 64 * 2**20  # file, pages, one frame's work
