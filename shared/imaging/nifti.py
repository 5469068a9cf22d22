"""NIfTI to slices, by nibabel. Imported at the first such file only."""

import logging
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from shared.errors import Reason, RejectedScan
from shared.imaging.geometry import aspect_of, square_pixels, squared_size
from shared.imaging.intensity import Pixels, Values, scaled, usual_range
from shared.imaging.limits import check_pages, check_size, decoder_calls, each, inflated
from shared.imaging.metadata import Attributes

# nibabel says what it finds odd in a header, which may name a patient. What matters is raised.
logging.getLogger("nibabel").setLevel(logging.CRITICAL + 1)

_ERRORS = (HeaderDataError, ImageFileError, WrapStructError)
_GZIP = b"\x1f\x8b\x08"
_PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}
_SHOWN_AS = {0: (2, 1), 1: (2, 0), 2: (1, 0)}
"""The patient's axes (0 to the right, 1 to the front, 2 up) along the rows and the columns of a slice across each."""


def read(content: bytes) -> tuple[Attributes, Iterator[Pixels]]:
    """Return what a volume says of itself, and its slices across its thickest axis as radiologists look at them.

    Slices share one contrast, `usual_range` of the volume, or what its header asks for. A series of volumes follows
    one volume after another. Raises RejectedScan.
    """
    if content.startswith(_GZIP):
        content = inflated(content, zlib.MAX_WBITS | 16)
    kind = _kind(content)
    with decoder_calls(*_ERRORS):
        image = kind.from_bytes(content)
        shape = (*image.shape, 1, 1)[: max(len(image.shape), 4)]
        spacing = [float(side) for side in (*image.header.get_zooms(), 1.0, 1.0)[:3]]
        to_patient: Values = io_orientation(image.affine)  # type: ignore[no-untyped-call]
        grey = np.dtype(image.get_data_dtype()).kind in "iuf"
    if not grey or np.isnan(to_patient).any() or not all(0 < side < 1e4 for side in spacing):
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT if not grey else Reason.CORRUPT)
    slicing = _slicing_axis(spacing, to_patient)
    across, down = _in_plane(to_patient, slicing)
    width, height = shape[across], shape[down]
    volumes = int(np.prod(shape[3:]))
    check_pages(shape[slicing] * volumes, int(np.prod(shape)), volume=True)
    check_size(width, height)
    aspect = aspect_of(spacing[down], spacing[across])
    check_size(*squared_size(width, height, aspect))
    with decoder_calls(*_ERRORS):
        attributes = _attributes(image, spacing, to_patient, slicing, volumes)
    return attributes, each(_slices(image, to_patient, slicing, aspect), *_ERRORS)


def _kind(content: bytes) -> type[Any]:
    if content[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    if content[4:8] == b"n+2\0":
        return nibabel.Nifti2Image
    raise RejectedScan(Reason.NOT_AN_IMAGE)


def _slicing_axis(spacing: list[float], to_patient: Values) -> int:
    """The array's axis with the largest step, the one along the body if several are as large."""
    along_body = int(np.argmax(to_patient[:, 0] == 2))
    thickest = max(spacing)
    return along_body if spacing[along_body] > 0.99 * thickest else spacing.index(thickest)


def _in_plane(to_patient: Values, slicing: int) -> tuple[int, int]:
    """The array's axes that run across and down a slice."""
    rows, columns = _SHOWN_AS[_axis(to_patient, slicing)]
    return int(np.argmax(to_patient[:, 0] == columns)), int(np.argmax(to_patient[:, 0] == rows))


def _axis(to_patient: Values, axis: int) -> int:
    return int(to_patient[axis, 0])


def _slices(image: Any, to_patient: Values, slicing: int, aspect: float) -> Iterator[Pixels]:  # noqa: ANN401 - untyped
    """Slices from the patient's left, back or feet on, each turned, scaled and squared."""
    stored = image.dataobj.get_unscaled()  # the slope only moves the limits, and would make 8 bytes of each value
    limits = _limits(image, stored)
    across, down = _in_plane(to_patient, slicing)
    turned = {axis: to_patient[axis, 1] for axis in range(3)}
    for volume in _volumes(stored):
        cube = np.transpose(volume, (slicing, down, across))
        cube = cube[:: int(turned[slicing])]
        # Columns start at the patient's right or front, rows at the top or the front: the far end of R, A and S.
        cube = cube[:, :: -int(turned[down]), :: -int(turned[across])]
        for values in cube:
            yield square_pixels(scaled(values, limits), aspect)


def _volumes(stored: Values) -> Iterator[Values]:
    if stored.ndim <= 3:
        yield stored.reshape((*stored.shape, 1, 1)[:3])
        return
    flat = stored.reshape((*stored.shape[:3], -1))
    yield from (flat[..., number] for number in range(flat.shape[3]))


def _limits(image: Any, stored: Values) -> tuple[float, float]:  # noqa: ANN401 - untyped
    """Stored values to show as black and as white: those that the header asks for, or the usual range."""
    slope, intercept = float(image.dataobj.slope) or 1.0, float(image.dataobj.inter)
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return (low - intercept) / slope, (high - intercept) / slope
    low, high = usual_range(stored)
    return (low, high) if slope > 0 else (high, low)


def _attributes(image: Any, spacing: list[float], to_patient: Values, slicing: int, volumes: int) -> Attributes:  # noqa: ANN401
    """Plane, spacing and each slice's place on the patient's axis; NIfTI knows nothing else that names nobody."""
    axis = _axis(to_patient, slicing)
    in_plane = [side for number, side in enumerate(spacing) if number != slicing]
    index = np.zeros((image.shape[slicing] if slicing < len(image.shape) else 1, 4))
    index[:, 3], index[:, slicing] = 1, np.arange(len(index))
    places = (index @ np.asarray(image.affine).T)[:, axis][:: int(to_patient[slicing, 1])]
    return Attributes(
        plane=_PLANES[axis],
        pixel_spacing_mm=min(in_plane),
        slice_thickness_mm=spacing[slicing],
        slice_positions_mm=tuple(round(float(place), 3) for place in places) * volumes,
    )
