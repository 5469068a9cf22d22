"""DICOM to pixels. Imported at the first such file only; of all that a file says, nothing but pixels leaves."""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.pixels import iter_pixels
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.uid import DeflatedExplicitVRLittleEndian

from shared.decoding import MAX_BYTES, check_size, decoder_calls, each, scaled
from shared.errors import Reason, RejectedScan

# pydicom quotes what it finds odd, which may be a patient's name. What matters is raised.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").propagate = False

_DISPLAY = (
    "BitsStored",
    "ModalityLUTSequence",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
)


def frames(content: bytes) -> Iterator[np.ndarray]:
    """Every frame as a viewer shows it: uint8 (h, w) or (h, w, 3). Raises RejectedScan as `shared.decoding.decode`."""
    _check_inflated(content)
    with decoder_calls():
        dataset = dcmread(io.BytesIO(content))
        if "Rows" not in dataset:
            raise RejectedScan(Reason.NOT_AN_IMAGE)
        width, height, pages = int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames") or 1)
    check_size(width, height, width * height * pages, pages)
    for index, frame in enumerate(each(iter_pixels(dataset))):
        with decoder_calls():
            pixels = _shown(frame, dataset, index)
        yield pixels


def _check_inflated(content: bytes) -> None:
    """pydicom inflates a deflated file whole, and 64 MiB may hold 64 GiB."""
    file = io.BytesIO(content)
    file.seek(132)
    with decoder_calls():
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_BYTES + 1)
    if len(inflated) > MAX_BYTES:
        raise RejectedScan(Reason.TOO_LARGE)


def _shown(frame: np.ndarray, dataset: Dataset, index: int) -> np.ndarray:
    photometric, bits = dataset.PhotometricInterpretation, dataset.get("BitsStored")
    if photometric == "PALETTE COLOR":
        frame, bits = apply_color_lut(frame, dataset), dataset.RedPaletteColorLookupTableDescriptor[2]
    if frame.ndim == 3:
        return (frame >> max(bits - 8, 0)).astype(np.uint8)
    pixels = _grey(frame, _display(dataset, index))
    return 255 - pixels if photometric == "MONOCHROME1" else pixels


def _grey(frame: np.ndarray, display: Dataset) -> np.ndarray:
    """Rescaled, then windowed or, without a window, as `scaled` finds its limits; plain 8-bit grey stays as it is."""
    values = apply_modality_lut(frame, display)
    if display.get("VOILUTSequence"):
        top = 2 ** display.VOILUTSequence[0].LUTDescriptor[2] - 1
        return scaled(apply_voi_lut(values, display), (0, top))
    if _has_window(display):
        darkest, brightest = apply_windowing(np.array([-np.inf, np.inf]), display)
        return scaled(apply_windowing(values, display), (darkest, brightest))
    return frame if values is frame and frame.dtype == np.uint8 and display.BitsStored == 8 else scaled(values)


def _has_window(display: Dataset) -> bool:
    """Whether there is a window that the standard allows (PS3.3 C.11.2.1.2); writers put 0 where they have none."""
    center, width = np.ravel(display.get("WindowCenter")), np.ravel(display.get("WindowWidth"))
    least = 1 if display.get("VOILUTFunction", "LINEAR") == "LINEAR" else np.finfo(float).tiny
    return center[0] is not None and width[0] is not None and width[0] >= least


def _display(dataset: Dataset, index: int) -> Dataset:
    """What says how one frame is shown. Enhanced objects keep it in functional groups (PS3.3 C.7.6.16)."""
    display = Dataset()
    display.BitsStored, display.PixelRepresentation = 32, 1  # absent where pixels are floating point
    display.update({keyword: dataset[keyword].value for keyword in _DISPLAY if keyword in dataset})
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
    for group in (*shared, *own):
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(macro) or []:
                display.update(item)
    return display
