"""The display steps of PS3.3, each against the formula of its section."""

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from shared.imaging.decoding import decode
from shared.imaging.intensity import scaled
from tests.shared.imaging.drawn import DEEP, GREY, dataset, dicom, written

TWELVE = {"BitsStored": 12, "HighBit": 11}
WINDOW = {"WindowCenter": 900, "WindowWidth": 1200}


def page(made):
    (pixels,) = decode(written(made) if isinstance(made, Dataset) else made).pages
    return pixels


def linear(values, center, width):
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def table(descriptor, data, kind="OW"):
    item = Dataset()
    item.add_new(0x00283002, "US", descriptor)
    item.add_new(0x00283006, kind, data)
    return Sequence([item])


@pytest.mark.parametrize("shift", [0, 2, 4])
@pytest.mark.parametrize("rubbish", [False, True], ids=["clean", "overlay in the other bits"])
def test_stored_bits_are_found_below_the_high_bit(shift, rubbish):
    values = DEEP << shift
    if rubbish:
        values = values | np.uint16((0xFFFF << (12 + shift)) & 0xFFFF) | np.uint16((1 << shift) - 1)
    found = page(dicom(values, BitsStored=12, HighBit=11 + shift, **WINDOW))
    assert np.array_equal(found, page(dicom(DEEP, **TWELVE, **WINDOW)))


def test_signed_values_of_twelve_bits_have_their_sign_in_the_twelfth():
    signed = DEEP.astype(np.int16) - 700
    as_stored = (signed.view(np.uint16) & 0x0FFF).view(np.int16)
    window = {"WindowCenter": 0, "WindowWidth": 900}
    assert np.array_equal(page(dicom(as_stored, **TWELVE, **window)), page(dicom(signed, **window)))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_voi_table_of_words_is_applied(syntax):
    entries = (np.arange(4096) ** 2 // 256).astype(np.uint16)
    data = entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    made = dataset(DEEP, syntax=syntax, **TWELVE, VOILUTSequence=table([4096, 0, 16], data))
    assert np.abs(page(made) - entries[DEEP] / 65535 * 255).max() <= 1


def test_voi_table_of_octets_two_in_a_word():
    entries = (255 - np.arange(4096) // 16).astype(np.uint8)
    made = dataset(DEEP, **TWELVE, VOILUTSequence=table([4096, 0, 8], entries.tobytes()))
    assert np.array_equal(page(made), entries[DEEP])


def test_values_beyond_a_table_have_its_ends():
    entries = np.linspace(0, 65535, 256).astype("<u2")
    made = dataset(DEEP, **TWELVE, VOILUTSequence=table([256, 500, 16], entries.tobytes()))
    assert np.abs(page(made) - np.clip((DEEP.astype(int) - 500) / 255, 0, 1) * 255).max() <= 1


@pytest.mark.parametrize("slope", [b"0   ", b"NaN ", b"    ", b"XX  ", b"inf "])
def test_a_slope_that_is_no_slope_is_one(slope):
    content = dicom(DEEP, RescaleSlope="1.25", RescaleIntercept="0", **WINDOW).replace(b"1.25", slope)
    assert np.abs(page(content) - linear(DEEP.astype(float), 900, 1200)).max() <= 1


def test_a_comma_is_a_decimal_point():
    made = written(dataset(DEEP, RescaleSlope="1.5 ", RescaleIntercept="0", **WINDOW)).replace(b"1.5 ", b"1,5 ")
    assert np.abs(page(made) - linear(DEEP * 1.5, 900, 1200)).max() <= 1


@pytest.mark.parametrize("function", ["", "LINEAR", "SOMETHING"])
def test_an_unknown_function_is_linear(function):
    made = dicom(DEEP, VOILUTFunction=function, **WINDOW)
    assert np.abs(page(made) - linear(DEEP.astype(float), 900, 1200)).max() <= 1


def test_a_window_one_wide_is_a_step():
    assert np.array_equal(page(dicom(DEEP, WindowCenter=600, WindowWidth=1)), np.where(DEEP > 599.5, 255, 0))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, WINDOW], ids=["no window", "window"])
@pytest.mark.parametrize("value", [-2000, -32768])
def test_padding_is_background_and_takes_no_part_in_the_contrast(photometric, window, value):
    hidden = np.zeros(GREY.shape, bool)
    hidden[:15] = hidden[:, 50:] = True
    values = DEEP.astype(np.int16)
    made = dataset(np.where(hidden, np.int16(value), values), PhotometricInterpretation=photometric, **window)
    made.add_new(0x00280120, "SS", value)
    found = page(made)
    assert not found[hidden].any()
    without = page(dicom(values, **window)) if window else scaled(values, hidden=hidden)
    expected = 255 - without if photometric == "MONOCHROME1" else without
    assert np.array_equal(found[~hidden], expected[~hidden])


def test_a_range_of_padding():
    made = dataset(DEEP)
    made.add_new(0x00280120, "US", 0)
    made.add_new(0x00280121, "US", 400)
    assert np.array_equal(page(made), scaled(DEEP, hidden=DEEP <= 400))


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_presentation_shape_and_photometric_interpretation_invert_once(photometric, shape, inverted):
    tags = {"PresentationLUTShape": shape} if shape else {}
    found = page(dicom(GREY, PhotometricInterpretation=photometric, **tags))
    assert np.array_equal(found, 255 - GREY if inverted else GREY)


@pytest.mark.parametrize("missing", ["SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "HighBit"])
def test_a_missing_attribute_with_an_obvious_value_has_it(missing):
    made = dataset(DEEP, **WINDOW)
    delattr(made, missing)
    assert np.array_equal(page(made), page(dicom(DEEP, **WINDOW)))


def palette(bits, entries, syntax=ExplicitVRLittleEndian):
    made = dataset(GREY, syntax=syntax, PhotometricInterpretation="PALETTE COLOR")
    made["PixelData"].VR = "OB"
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    for colour, values in zip(("Red", "Green", "Blue"), entries, strict=True):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(made, f"{colour}PaletteColorLookupTableData", values.astype(f"{order}u2").tobytes())
    return made


COLOURS = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("factor", [257, 1], ids=["16 bits", "8 bits under a descriptor of 16"])
def test_palette_in_the_files_byte_order(syntax, factor):
    found = page(palette(16, COLOURS * factor, syntax))
    assert np.array_equal(found, np.moveaxis(COLOURS[:, GREY], 0, -1))


def test_segmented_palette():
    made = dataset(GREY, PhotometricInterpretation="PALETTE COLOR")
    ramp = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()  # one discrete entry of 0, then 255 steps to 65535
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"Segmented{colour}PaletteColorLookupTableData", ramp)
    assert np.abs(page(made).astype(int) - GREY[..., np.newaxis]).max() <= 1
