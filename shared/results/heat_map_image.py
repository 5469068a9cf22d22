"""The most suspicious slices with the heat map and its legend burnt in, as Secondary Capture images."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from highdicom.sc import SCImage
from highdicom.spatial import get_closest_patient_orientation
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import ExplicitVRLittleEndian

from shared.events import ScoredSlice, SeriesSummarised
from shared.results.headers import join_study, reference
from shared.results.identity import MANUFACTURER, MODEL_NAME, instance_uid, series_uid
from shared.scan import page_of

KIND = "heat-map"
_SERIES_NUMBER = 9702
_SHORT_SIDE = 512
"""Pixels: slices are enlarged to it, so that the legend can be read."""
_LEGEND_HEIGHT = 92
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_STRONGEST = 0.6
"""Opacity of the strongest evidence, through which the anatomy still shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """The inference service's explanation of one slice."""

    image: np.ndarray
    """uint8 (h, w) or (h, w, 3), the slice as decoded."""
    values: np.ndarray
    """float (16, 16): evidence for Cancer (positive) or against it, on the square that the network saw."""
    left: float
    top: float
    side: float
    """Of that square, in the image's pixels."""


def heat_map_images(
    answer: SeriesSummarised, headers: Sequence[Dataset], heat_maps: Sequence[HeatMap]
) -> list[SCImage]:
    """Return an image for each of `answer.suspicious`, whose headers and heat maps are given in the same order."""
    slices = zip(answer.suspicious, headers, heat_maps, strict=True)
    return [_image(answer, number, *each) for number, each in enumerate(slices, start=1)]


def _image(answer: SeriesSummarised, number: int, one: ScoredSlice, header: Dataset, heat_map: HeatMap) -> SCImage:
    orientation = _orientation(header)
    image = SCImage.from_ref_dataset(
        ref_dataset=reference(header),
        pixel_array=with_legend(overlay(heat_map), answer, one),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series_uid(answer.series_id, KIND),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=instance_uid(answer.revision, answer.series_id, f"{KIND}-{number}"),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=answer.model_version,
        series_description="Scanflow heat map (unverified, research use)",
        patient_orientation=orientation or ("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    if not orientation:
        image["PatientOrientation"].clear()  # type 2C: present and empty where nobody knows
    image.BodyPartExamined = "BRAIN"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BurnedInAnnotation = "NO"  # the legend says nothing of the patient
    image.DerivationDescription = "Slice with the evidence for a tumour in colour"
    image.SourceImageSequence = [_source(one, header)]
    join_study(image, header, answer.answered_at)
    return image


def overlay(heat_map: HeatMap) -> np.ndarray:
    """Return the slice, enlarged, with the evidence for Cancer in colour: uint8 (h, w, 3), RGB.

    Evidence against Cancer stays uncoloured: that is Grad-CAM's rectifier (arXiv 1610.02391).
    """
    height, width = heat_map.image.shape[:2]
    scale = max(_SHORT_SIDE / min(height, width), 1.0)
    size = (round(width * scale), round(height * scale))
    base = cv2.resize(heat_map.image, size, interpolation=cv2.INTER_CUBIC)
    base = cv2.cvtColor(base, cv2.COLOR_GRAY2RGB) if base.ndim == 2 else base
    heat = _heat(heat_map, scale, size)
    colours = cv2.cvtColor(
        cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB
    )
    weight = _STRONGEST * heat[:, :, np.newaxis]
    return np.rint(base * (1 - weight) + colours * weight).astype(np.uint8)


def _heat(heat_map: HeatMap, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Return the positive evidence on the enlarged slice, float32 (h, w) in [0, 1]: 0 outside what the network saw."""
    values = np.maximum(heat_map.values, 0) / max(float(np.abs(heat_map.values).max()), 1e-12)
    cell = heat_map.side * scale / values.shape[0]
    # A cell's value belongs to its centre, half a cell from the square's edge.
    place = np.array(
        [[cell, 0, heat_map.left * scale + cell / 2], [0, cell, heat_map.top * scale + cell / 2]], np.float32
    )
    warped = cv2.warpAffine(values.astype(np.float32), place, size, flags=cv2.INTER_LINEAR)
    return np.clip(warped, 0, 1)


def with_legend(image: np.ndarray, answer: SeriesSummarised, one: ScoredSlice) -> np.ndarray:
    """Return an RGB image with a band below it: probabilities, model version, colour scale and notice."""
    band = np.zeros((_LEGEND_HEIGHT, image.shape[1], 3), np.uint8)
    lines = [
        f"{answer.prediction}: P(tumour) series {answer.probability:.2f}, this slice {one.probability:.2f}",
        f"Scanflow {answer.model_version}, {answer.scored} of {answer.accepted} slices",
        "UNVERIFIED - RESEARCH USE ONLY",
    ]
    for row, line in enumerate(lines):
        cv2.putText(band, line, (8, 22 + 20 * row), _FONT, 0.46, (255, 255, 255), 1, cv2.LINE_AA)
    scale = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (8, 1))
    band[74:82, 70:230] = cv2.cvtColor(cv2.applyColorMap(scale, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    for text, left in (("none", 8), ("strongest evidence", 238)):
        cv2.putText(band, text, (left, 83), _FONT, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([image, band])


def _orientation(header: Dataset) -> tuple[str, str] | None:
    """Return where rows and columns point in the patient (PS3.3 C.7.6.1.1.1), None where the header does not say."""
    cosines = header.get("ImageOrientationPatient")
    if not cosines or len(cosines) != 6:
        return None
    down, right = get_closest_patient_orientation(_affine([float(value) for value in cosines]))[:2]
    return right.value, down.value


def _affine(cosines: Sequence[float]) -> np.ndarray:
    """Return the orientation as an affine matrix, its first axis down the rows, its second along the columns."""
    along_row, along_column = np.array(cosines[:3]), np.array(cosines[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = along_column, along_row, np.cross(along_row, along_column)
    return affine


def _source(one: ScoredSlice, header: Dataset) -> Dataset:
    source, page = Dataset(), page_of(one.scan_id)
    source.ReferencedSOPClassUID = str(header.SOPClassUID)
    source.ReferencedSOPInstanceUID = str(header.SOPInstanceUID)
    if page is not None:
        source.ReferencedFrameNumber = page + 1
    purpose = Dataset()
    code = dictionary.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code[:3]
    source.PurposeOfReferenceCodeSequence = [purpose]
    return source
