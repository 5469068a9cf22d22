import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.imaging.decoding import decode
from shared.imaging.geometry import aspect_of
from tests.shared.imaging.drawn import DEEP, GREY, dicom, saved

TWICE = np.repeat(GREY, 2, axis=0)
"""What pixels twice as high as wide should look like."""


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def with_density(pixels, file_format, across, down):
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, file_format, dpi=(across, down), **({"quality": 100} if file_format == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        with_density(GREY, "PNG", 144, 72),
        tiff(GREY, resolution=(200, 100)),
        dicom(GREY, PixelSpacing=[2, 1]),
        dicom(GREY, PixelAspectRatio=[2, 1]),
    ],
    ids=["PNG pHYs", "TIFF resolution", "DICOM spacing", "DICOM aspect ratio"],
)
def test_pixels_are_made_square(content):
    decoded = decode(content)
    assert np.array_equal(decoded.pages[0], TWICE)
    assert not decoded.passes_through


def test_jpeg_of_another_density_is_made_square():
    plain = decode(with_density(GREY, "JPEG", 100, 100))
    decoded = decode(with_density(GREY, "JPEG", 200, 100))
    assert np.array_equal(decoded.pages[0], np.repeat(plain.pages[0], 2, axis=0))
    assert plain.passes_through
    assert not decoded.passes_through


def test_wide_pixels_are_drawn_out_across():
    assert np.array_equal(decode(dicom(GREY, PixelSpacing=[1, 2])).pages[0], np.repeat(GREY, 2, axis=1))


def test_an_odd_ratio_keeps_the_mean_and_the_place():
    page = decode(dicom(GREY, PixelSpacing=[1.3, 1])).pages[0]
    assert page.shape == (94, 60)
    assert abs(page.mean() - GREY.mean()) < 1
    rows = np.linspace(0, 71, 94).round().astype(int)
    assert np.abs(page.astype(int) - GREY[rows]).mean() < 3


def test_density_holds_before_the_picture_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(GREY)
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(144, 72), exif=exif)
    assert np.array_equal(decode(file.getvalue()).pages[0], np.rot90(TWICE, -1))


@pytest.mark.parametrize(
    ("height", "width", "aspect"),
    [(1, 1, 1), (1.005, 1, 1), (2, 1, 2), (1, 2, 0.5), (9, 1, 1), (0, 1, 1), (None, 1, 1)],
)
def test_what_is_near_square_or_beyond_belief_is_left_alone(height, width, aspect):
    assert aspect_of(height, width) == aspect


def test_pixel_spacing_of_an_enhanced_object_counts():
    from pydicom import Dataset, Sequence  # noqa: PLC0415

    from tests.shared.imaging.drawn import dataset, written  # noqa: PLC0415

    measures, group = Dataset(), Dataset()
    measures.PixelSpacing = [2, 1]
    group.PixelMeasuresSequence = Sequence([measures])
    made = dataset(np.stack([DEEP, DEEP]), 2)
    made.SharedFunctionalGroupsSequence = Sequence([group])
    assert decode(written(made)).pages[1].shape == (144, 60)


def test_square_grey_is_left_as_it_is():
    content = saved(GREY, "PNG")
    assert decode(content).stripped == content
