"""DICOM to pixels. Imported at the first such file only; of all that a file says, nothing but pixels leaves."""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000TransferSyntaxes, RLELossless

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import MAX_BYTES, MAX_JPEG_SCANS, check_size, decoder_calls, each, scaled

# pydicom quotes what it finds odd, which may be a patient's name. What matters is raised.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

_ERRORS = (BytesLengthException, InvalidDicomError)
"""What pydicom raises beside Python's own exceptions."""

_HOW_TO_SHOW = [
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
]
_READ = [
    *_HOW_TO_SHOW,
    "BitsAllocated",
    "Columns",
    "DoubleFloatPixelData",
    "FloatPixelData",
    "HighBit",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
    "PlanarConfiguration",
    "Rows",
    "SamplesPerPixel",
    "SharedFunctionalGroupsSequence",
    *(
        f"{prefix}{colour}PaletteColorLookupTable{part}"
        for prefix, part in (("", "Data"), ("", "Descriptor"), ("Segmented", "Data"))
        for colour in ("Red", "Green", "Blue")
    ),
]
"""All that is ever read of a file: a tag that may tell who the patient is does not even reach memory."""


def frames(content: bytes) -> Iterator[np.ndarray]:
    """Every frame as a viewer shows it: uint8 (h, w) or (h, w, 3). Raises RejectedScan."""
    _check_inflated(content)
    with decoder_calls(*_ERRORS):
        dataset = dcmread(io.BytesIO(content), specific_tags=_READ)
        if "Rows" not in dataset:
            raise RejectedScan(Reason.NOT_AN_IMAGE)
        width, height, pages = int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames") or 1)
    check_size(width, height, width * height * pages, pages)
    with decoder_calls(*_ERRORS):
        _check_frames(dataset, pages)
    for index, frame in enumerate(islice(each(iter_pixels(dataset), *_ERRORS), pages)):
        with decoder_calls(*_ERRORS):
            pixels = _shown(frame, dataset, index)
        yield pixels


def _check_inflated(content: bytes) -> None:
    """pydicom inflates a deflated file whole, and 64 MiB may hold 64 GiB."""
    file = io.BytesIO(content)
    file.seek(132)
    with decoder_calls(*_ERRORS):
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_BYTES + 1)
    if len(inflated) > MAX_BYTES:
        raise RejectedScan(Reason.TOO_LARGE)


def _check_frames(dataset: Dataset, pages: int) -> None:
    """Every compressed frame is as large as the dataset says: the decoders believe the frame."""
    syntax = dataset.file_meta.TransferSyntaxUID
    get_decoder(syntax)  # raises NotImplementedError, which says more than what would fail next
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    size_of = _jpeg_2000_size if syntax in JPEG2000TransferSyntaxes else _jpeg_size
    for frame in islice(generate_frames(dataset.PixelData, number_of_frames=pages), pages):
        if size_of(frame) != (dataset.Columns, dataset.Rows) or frame.count(b"\xff\xda") > MAX_JPEG_SCANS:
            raise RejectedScan(Reason.CORRUPT)


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Width and height of a JPEG or JPEG-LS frame, from its start-of-frame segment (ITU-T T.81, B.2.2; T.87, C.2.2)."""
    at = 2
    while not (0xC0 <= frame[at + 1] <= 0xCF and frame[at + 1] not in (0xC4, 0xC8, 0xCC)) and frame[at + 1] != 0xF7:
        fill = frame[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(frame[at + 2 : at + 4])
    height, width = struct.unpack(">HH", frame[at + 5 : at + 9])
    return width, height


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """Width and height of a JPEG 2000 frame, bare or in a JP2 file's boxes (ITU-T T.800, A.5.1 and I.4).

    An empty box, at which pydicom would wait for ever, ends here.
    """
    at = 0
    if frame[4:8] == b"jP  ":
        while frame[at + 4 : at + 8] != b"jp2c":
            length = int.from_bytes(frame[at : at + 4])
            if length < 8:
                raise RejectedScan(Reason.CORRUPT)
            at += length
        at += 8
    right, bottom, left, top = struct.unpack(">4I", frame[at + 8 : at + 24])
    return right - left, bottom - top


def _shown(frame: np.ndarray, dataset: Dataset, index: int) -> np.ndarray:
    photometric, bits = dataset.PhotometricInterpretation, dataset.get("BitsStored")
    if photometric == "PALETTE COLOR":
        frame, bits = apply_color_lut(frame, dataset), dataset.RedPaletteColorLookupTableDescriptor[2]
    if frame.ndim == 3:
        return (frame >> max(bits - 8, 0)).astype(np.uint8)
    pixels = _grey(frame, _how_to_show(dataset, index))
    return 255 - pixels if photometric == "MONOCHROME1" else pixels


def _grey(frame: np.ndarray, how: Dataset) -> np.ndarray:
    """Rescaled, then windowed or, without a window, as `scaled` finds its limits; plain 8-bit grey stays as it is."""
    values = apply_modality_lut(frame, how)
    if how.get("VOILUTSequence"):
        return scaled(apply_voi_lut(values, how), (0, 2 ** how.VOILUTSequence[0].LUTDescriptor[2] - 1))
    if _has_window(how):
        darkest, brightest = apply_windowing(np.array([-np.inf, np.inf]), how)
        return scaled(apply_windowing(values, how), (darkest, brightest))
    return frame if values is frame and frame.dtype == np.uint8 and how.BitsStored == 8 else scaled(values)


def _has_window(how: Dataset) -> bool:
    """Whether there is a window that the standard allows (PS3.3 C.11.2.1.2); writers put 0 where they have none."""
    center, width = np.ravel(how.get("WindowCenter"))[0], np.ravel(how.get("WindowWidth"))[0]
    least = 1 if how.get("VOILUTFunction", "LINEAR") == "LINEAR" else np.finfo(float).tiny
    return center is not None and width is not None and width >= least


def _how_to_show(dataset: Dataset, index: int) -> Dataset:
    """Rescale and window of one frame. Enhanced objects keep them in functional groups (PS3.3 C.7.6.16)."""
    how = Dataset()
    how.BitsStored, how.PixelRepresentation = 32, 1  # absent where pixels are floating point
    how.update({keyword: dataset[keyword].value for keyword in _HOW_TO_SHOW if keyword in dataset})
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
    for group in (*shared, *own):
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(macro) or []:
                how.update(item)
    return how
