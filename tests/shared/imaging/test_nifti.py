"""NIfTI volumes as series of slices, in radiological orientation whatever the axes of the array."""

import gzip

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode
from shared.imaging.intensity import scaled, usual_range

SIZE = (40, 48, 6)
"""From the patient's left to right, back to front, feet to head: as NIfTI's axes run."""


def head():
    """A volume (right, front, up) whose every corner differs."""
    x, y, z = np.meshgrid(*(np.linspace(0, 1, side) for side in SIZE), indexing="ij")
    return (100 + 300 * x + 200 * y * y + 100 * z).astype(np.int16)


def volume(values=None, spacing=(1.0, 1.0, 5.0), axes="RAS", kind=nibabel.Nifti1Image):
    """The bytes of a volume whose array runs along these axes."""
    values = head() if values is None else values
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -20, -30, -10
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    turned = apply_orientation(values, turn) if values.ndim == 3 else values
    return kind(turned, affine @ inv_ornt_aff(turn, values.shape[:3]) if axes != "RAS" else affine).to_bytes()


def axial(values):
    """Slices from the feet on: the front above, the patient's right on the left."""
    return [scaled(values[::-1, ::-1, z].T, usual_range(values)) for z in range(values.shape[2])]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ARS"])
def test_slices_are_radiological_whatever_the_arrays_axes(axes):
    decoded = decode(volume(axes=axes))
    assert decoded.format == "NIfTI"
    assert all(np.array_equal(page, right) for page, right in zip(decoded.pages, axial(head()), strict=True))
    assert decoded.attributes.plane == "axial"
    assert decoded.attributes.slice_positions_mm == (-10, -5, 0, 5, 10, 15)
    assert (decoded.attributes.pixel_spacing_mm, decoded.attributes.slice_thickness_mm) == (1, 5)


def test_the_thickest_axis_is_the_one_across_the_slices():
    values = np.repeat(head(), 8, axis=2)
    assert len(decode(volume(values, (4.0, 1.0, 1.0))).pages) == SIZE[0]
    sagittal = decode(volume(values, (4.0, 1.0, 1.0)))
    assert sagittal.attributes.plane == "sagittal"
    assert np.array_equal(sagittal.pages[3], scaled(values[3, ::-1, ::-1].T, usual_range(values)))
    coronal = decode(volume(values, (1.0, 4.0, 1.0)))
    assert coronal.attributes.plane == "coronal"
    assert np.array_equal(coronal.pages[3], scaled(values[::-1, 3, ::-1].T, usual_range(values)))


def test_an_isotropic_volume_is_axial():
    assert decode(volume(np.repeat(head(), 8, axis=2), (1.0, 1.0, 1.0))).attributes.plane == "axial"


def test_pixels_are_made_square():
    assert decode(volume(spacing=(1.0, 2.0, 5.0))).pages[0].shape == (96, 40)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_kinds_of_values(kind):
    values = (head() // 4).astype(kind)
    assert np.array_equal(decode(volume(values)).pages[2], axial(values)[2])


def test_versions_and_compression():
    expected = axial(head())[1]
    for content in (volume(), volume(kind=nibabel.Nifti2Image), gzip.compress(volume())):
        assert np.array_equal(decode(content).pages[1], expected)


def test_slope_and_display_range_of_the_header():
    image = nibabel.Nifti1Image(head().astype(np.float32), np.diag([1, 1, 5, 1]))
    image.set_data_dtype(np.int16)
    image.header["cal_min"], image.header["cal_max"] = 200, 500
    shown = decode(image.to_bytes()).pages[2]
    assert np.abs(shown.astype(int) - scaled(head()[::-1, ::-1, 2].T, (200, 500))).max() <= 1


def test_what_is_not_a_number_is_black():
    values = head().astype(np.float32)
    values[:, :10] = np.nan
    assert not decode(volume(values)).pages[0][-10:].any()


def test_a_series_of_volumes_is_one_behind_another():
    values = np.stack([head(), head() // 2], axis=3)
    decoded = decode(volume(values))
    assert len(decoded.pages) == 12
    assert decoded.attributes.slice_position_mm(6) == decoded.attributes.slice_position_mm(0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (volume()[:-5000], Reason.TRUNCATED),
        (gzip.compress(volume())[:-200], Reason.TRUNCATED),
        (gzip.compress(b"hello" * 999), Reason.NOT_AN_IMAGE),
        (volume(np.zeros((20, 20, 5), np.int16)), Reason.TOO_SMALL),
        (volume(np.zeros(SIZE, np.int16)), Reason.BLANK),
        (volume(head().astype(np.complex64)), Reason.UNSUPPORTED_FORMAT),
        (gzip.compress(bytes(200 * 2**20), 1), Reason.TOO_LARGE_VOLUME),
    ],
    ids=["cut", "cut inside gzip", "no volume", "small", "blank", "complex", "a bomb"],
)
def test_what_is_no_good_volume_has_a_reason(content, reason):
    with pytest.raises(RejectedScan) as rejected:
        decode(content)
    assert rejected.value.reason is reason


def test_orientation_helper_agrees_with_nibabel():
    image = nibabel.Nifti1Image.from_bytes(volume(axes="LPS"))
    assert np.array_equal(io_orientation(image.affine), axcodes2ornt("LPS"))
