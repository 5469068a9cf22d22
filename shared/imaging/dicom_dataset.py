"""A DICOM file, or a bare data set, to the few elements that are read and the bytes of its pixels."""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from shared.errors import Reason, RejectedScan
from shared.imaging.dicom_values import uid
from shared.imaging.limits import decoder_calls, inflated

# pydicom quotes what it finds odd, which may be a patient's name. What matters is raised.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

ERRORS = (BytesLengthException, InvalidDicomError)
"""What pydicom raises beside Python's own exceptions."""

_KEYWORDS = [
    "AccessionNumber",
    "AcquisitionContrast",
    "AnatomicRegionSequence",
    "BitsAllocated",
    "BitsStored",
    "BodyPartExamined",
    "Columns",
    "ComplexImageComponent",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "DiffusionBValue",
    "EchoTime",
    "FloatPixelPaddingValue",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InversionTime",
    "MagneticFieldStrength",
    "Manufacturer",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelAspectRatio",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "PresentationLUTShape",
    "ProtocolName",
    "RepetitionTime",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SamplesPerPixel",
    "ScanningSequence",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
    "StudyInstanceUID",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    *(
        f"{prefix}{colour}PaletteColorLookupTable{part}"
        for prefix, part in (("", "Data"), ("", "Descriptor"), ("Segmented", "Data"))
        for colour in ("Red", "Green", "Blue")
    ),
]
SIEMENS_CREATORS = ((0x0019, 0x0010), (0x0029, 0x0010))
MOSAIC_IMAGES, CSA_HEADER = BaseTag(0x0019100A), BaseTag(0x00291010)
_PRIVATE = [BaseTag(group << 16 | element) for group, element in SIEMENS_CREATORS] + [MOSAIC_IMAGES, CSA_HEADER]
_READ = [BaseTag(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS] + _PRIVATE
"""All that is ever read of a file: neither a patient's name nor number even reaches memory."""

_PIXELS = {BaseTag(0x7FE00008): "f4", BaseTag(0x7FE00009): "f8", BaseTag(0x7FE00010): ""}
"""Tags of pixel data, with the type of those that are floating point."""

_UNDEFINED = 0xFFFFFFFF
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"}


@dataclass(frozen=True, slots=True)
class Source:
    """What is read of a file."""

    dataset: Dataset = field(repr=False)
    """The elements of `_READ`, their values as bytes."""
    syntax: str
    """Transfer syntax; empty if the file does not say it."""
    little_endian: bool
    pixels: memoryview = field(repr=False)
    """Value of the pixel data element: to the end of the file if its length is undefined."""
    encapsulated: bool
    words: bool
    """Whether the pixels are 16-bit words, which matters for 8-bit samples in big-endian order (PS3.5, 8.1.2)."""
    float_kind: str
    """f4 or f8; empty for integers."""


def open_source(content: bytes) -> Source:
    """Return what is read of a file. Raises RejectedScan, "truncated" if it ends within an element."""
    with decoder_calls(*ERRORS):
        body, syntax = _body(content)
        implicit, little_endian = _encoding(body, syntax)
        stopped: list[tuple[BaseTag, str | None, int]] = []

        def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
            if tag in _PIXELS:
                stopped.append((tag, vr, length))
            return bool(stopped)

        file = io.BytesIO(body)
        dataset = read_dataset(file, implicit, little_endian, stop_when=at_pixels, specific_tags=list(_READ))
        cut = not stopped and (file.tell() > len(body) or _is_cut(dataset))
    if not stopped:
        raise RejectedScan(Reason.TRUNCATED if cut else Reason.NOT_AN_IMAGE)
    tag, vr, length = stopped[0]
    start = file.tell() + (12 if vr in _LONG else 8)
    end = len(body) if length == _UNDEFINED else start + length
    pixels = memoryview(body)[start:end]
    return Source(
        dataset=dataset,
        syntax=syntax,
        little_endian=little_endian,
        pixels=pixels,
        encapsulated=length == _UNDEFINED or _starts_with_items(pixels),
        words=vr != "OB",
        float_kind=_PIXELS[tag],
    )


def _starts_with_items(pixels: memoryview) -> bool:
    """Whether there are an offset table and a fragment, as encapsulated pixels have, whatever the syntax says."""
    item = b"\xfe\xff\x00\xe0"
    table = int.from_bytes(pixels[4:8], "little")
    return pixels[:4] == item and pixels[8 + table : 12 + table] == item


def _body(content: bytes) -> tuple[bytes, str]:
    """The data set's bytes, inflated if deflated, and its transfer syntax. pydicom inflates 64 MiB to 64 GiB."""
    file = io.BytesIO(content)
    file.seek(132 if content[128:132] == b"DICM" else 0)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = uid(meta, "TransferSyntaxUID") or ""
    start = file.tell() if content[file.tell() :] else 0
    if syntax == DeflatedExplicitVRLittleEndian:
        return inflated(memoryview(content)[start:], -zlib.MAX_WBITS), syntax
    return content[start:], syntax


def _encoding(body: bytes, syntax: str) -> tuple[bool, bool]:
    """Whether a data set is in implicit VR and little endian, by its first element if the syntax does not say it."""
    if syntax == ExplicitVRBigEndian:
        return False, False
    big_endian = not syntax and body[:1] == b"\0" and body[1:2] != b"\0"
    explicit = body[4:6].isalpha() and body[4:6].isupper()
    return (syntax == ImplicitVRLittleEndian if syntax else not explicit), not big_endian


def _is_cut(dataset: Dataset) -> bool:
    return any(len(value) < length for value, length in _raw_values(dataset))


def _raw_values(dataset: Dataset) -> Iterator[tuple[bytes, int]]:
    for tag in dataset.keys():  # noqa: SIM118 - iterating a data set itself would convert its values
        element = dataset._dict[tag]  # as read: get_item would convert some
        if isinstance(element.value, bytes) and (length := getattr(element, "length", 0)) != _UNDEFINED:
            yield element.value, length
