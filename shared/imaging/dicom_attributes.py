"""Technical attributes of a DICOM data set, and whether it says of itself that it is no brain MRI."""

import re
from itertools import chain

import numpy as np
from pydicom import Dataset

from shared.errors import Reason
from shared.imaging.dicom_dataset import Source
from shared.imaging.dicom_mosaic import Mosaic
from shared.imaging.dicom_values import items, merged, number, numbers, optional, uid, word, words
from shared.imaging.metadata import Attributes

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_PICTURE = (
    "11.",  # presentation states
    "30",  # parametric map
    "66",  # raw data, registration, fiducials, segmentation
    "67",  # real world values
    "68",  # surfaces
    "78",  # refraction and other measurements
    "79",
    "88.",  # structured reports
    "9.",  # waveforms
    "104.",  # encapsulated documents
    "481.",  # radiotherapy
    "4.2",  # MR spectroscopy
)
_HEAD = re.compile(
    "BRAIN|HEAD|SKULL|CRANI|CEREBR|NEURO|PITUIT|SELLA|ORBIT|IAC|INTERNALAUDITORY|KOPF|SCHADEL|SCHÄDEL|HIRN|TETE|TÊTE|"
    "CERVEAU|CABEZA|TESTA"
)
_ELSEWHERE = re.compile(
    "ABDOMEN|ANKLE|AORTA|ARM|AXILLA|BACK|BILE|BLADDER|BREAST|BRONCHUS|BUTTOCK|CALCANEUS|CALF|CARDIAC|CAROTID|CERVIX|"
    "CHEST|CHOROID|CLAVICLE|COCCYX|COLON|COR|CORONARYARTERY|DUODENUM|ELBOW|ESOPHAGUS|EXTREMITY|FEMUR|FETUS|FINGER|FOOT|"
    "FOREARM|GALLBLADDER|HAND|HEART|HIP|HUMERUS|ILEUM|ILIUM|JAW|JEJUNUM|KIDNEY|KNEE|LARYNX|LEG|LIVER|LUNG|MAMMA|"
    "MANDIBLE|MAXILLA|MEDIASTINUM|NECK|OVARY|PANCREAS|PATELLA|PELVIS|PENIS|PHARYNX|PROSTATE|RECTUM|RENAL|RIB|SACRUM|"
    "SCAPULA|SCROTUM|SHOULDER|SIJOINT|SPINE|SPLEEN|STERNUM|STOMACH|TESTIS|THIGH|THORAX|THUMB|THYMUS|THYROID|TMJ|TOE|"
    "TRACHEA|URETER|URETHRA|UTERUS|VAGINA|VULVA|WHOLEBODY|WRIST|ZYGOMA|WIRBELSAULE|KNIE|HERZ|LEBER|SCHULTER|GENOU|COEUR|"
    "FOIE|EPAULE"
)
"""PS3.16, CID 4031 and annex L, and a few words of other languages."""
_LOCALIZERS = {"LOCALIZER", "SCOUT", "SURVEY", "LOCALISER", "TOPOGRAM"}
_LOCALIZER_NAMES = re.compile(r"(?<![A-Z])(LOC|LOCS|LOCALI[SZ]ER|SCOUT|SURVEY|AAHEAD_?SCOUT|AAHSCOUT)(?![A-Z])")
_MAPS = {"P", "PHASE", "R", "REAL", "I", "IMAGINARY", "ADC", "EADC", "FA", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP"}
_MAPS |= {"TMAX", "VELOCITY", "FIELD", "FIELDMAP", "R2", "R2STAR", "R2_STAR", "T1MAP", "T2MAP", "B0", "B1", "QSM"}
_MAPS |= {"P_SE", "P_FFE", "P_IR", "R_SE", "R_FFE", "R_IR", "I_SE", "I_FFE", "I_IR"}
_MAKERS = {
    "SIEMENS": "Siemens",
    "PHILIPS": "Philips",
    "GE ": "GE",
    "GENERAL ELECTRIC": "GE",
    "CANON": "Canon",
    "TOSHIBA": "Toshiba",
    "HITACHI": "Hitachi",
    "FUJI": "Fujifilm",
    "UIH": "United Imaging",
    "UNITED IMAGING": "United Imaging",
    "BRUKER": "Bruker",
    "ESAOTE": "Esaote",
    "HYPERFINE": "Hyperfine",
    "NEUSOFT": "Neusoft",
    "SAMSUNG": "Samsung",
}
_MACROS = (
    "FrameAnatomySequence",
    "MRImageFrameTypeSequence",
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRDiffusionSequence",
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
)


def attributes_of(source: Source, frames: int, mosaic: Mosaic | None) -> Attributes:
    """Return what a data set says of itself that names nobody, and why it is not scored if it says so."""
    dataset = source.dataset
    first = merged(dataset, 0, *_MACROS)
    spacing = [value for value in numbers(first, "PixelSpacing") if value and value > 0]
    return Attributes(
        modality=_modality(dataset),
        body_part=_body_part(first),
        plane=_plane(first),
        sequence=_sequence(first),
        contrast=_contrast(dataset),
        manufacturer=_manufacturer(dataset),
        field_strength_t=_field_strength(dataset),
        pixel_spacing_mm=min(spacing) if len(spacing) == 2 else None,
        slice_thickness_mm=optional(first, "SliceThickness"),
        slice_positions_mm=_positions(dataset, frames) if mosaic is None else mosaic.positions_mm(first),
        study_uid=uid(dataset, "StudyInstanceUID"),
        series_uid=uid(dataset, "SeriesInstanceUID"),
        accession_number=word(dataset, "AccessionNumber") or None,
        refusal=_refusal(dataset, first),
    )


def _refusal(dataset: Dataset, first: Dataset) -> Reason | None:
    """The first of the reasons not to score an object, from what it is to what it shows."""
    kind = (uid(dataset, "SOPClassUID") or "").removeprefix(_STORAGE)
    if kind.startswith(_NO_PICTURE) or kind == "4.2":
        return Reason.NO_PICTURE
    if word(dataset, "Modality") not in ("", "MR"):
        return Reason.NOT_MR
    if _body_part(first) is None and _is_elsewhere(first):
        return Reason.OTHER_BODY_PART
    if _is_localizer(dataset, first):
        return Reason.LOCALIZER
    return Reason.PARAMETRIC_MAP if _is_map(dataset, first) else None


def _modality(dataset: Dataset) -> str | None:
    modality = word(dataset, "Modality")
    return modality if re.fullmatch("[A-Z]{2,8}", modality) and len(modality) <= 8 else None


def _regions(dataset: Dataset) -> list[str]:
    """Body part and anatomic regions, in capital letters without blanks and signs."""
    regions = chain([dataset], items(dataset, "AnatomicRegionSequence"))
    texts = (word(part, keyword) for part in regions for keyword in ("BodyPartExamined", "CodeMeaning"))
    return [re.sub(r"[^A-ZÄÊ]", "", text) for text in texts if text]


def _body_part(dataset: Dataset) -> str | None:
    """BRAIN or HEAD; None if the file does not say it."""
    regions = _regions(dataset)
    if any("BRAIN" in region for region in regions):
        return "BRAIN"
    return "HEAD" if any(map(_HEAD.search, regions)) else None


def _is_elsewhere(dataset: Dataset) -> bool:
    """Whether a region is one of the other parts: alone if its name is short, or with more words."""
    found = (_ELSEWHERE.search(region) for region in _regions(dataset))
    return any(part and (len(part[0]) > 3 or part[0] == part.string) for part in found)


def _image_types(dataset: Dataset, first: Dataset) -> set[str]:
    """Image type from its third value on (PS3.3, C.7.6.1.1.2, C.8.3.1.1.1), of the object and of its first frame."""
    return {text for part in (dataset, first) for key in ("ImageType", "FrameType") for text in words(part, key)[2:]}


def _is_localizer(dataset: Dataset, first: Dataset) -> bool:
    """By image type, or by the name of the series: most scanners write LOCALIZER into the one or the other."""
    named = any(_LOCALIZER_NAMES.search(word(dataset, keyword)) for keyword in ("SeriesDescription", "ProtocolName"))
    return named or bool(_image_types(dataset, first) & _LOCALIZERS)


def _is_map(dataset: Dataset, first: Dataset) -> bool:
    """By image type, or by an enhanced object's complex component (PS3.3, C.8.13.3.1.1)."""
    types = _image_types(dataset, first)
    mapped = any(re.search(r"(^|[ _])MAP$", text) for text in types)
    parts = {word(dataset, "ComplexImageComponent"), word(first, "ComplexImageComponent")}
    return mapped or bool(types & _MAPS) or bool(parts & {"PHASE", "REAL", "IMAGINARY"})


def _plane(first: Dataset) -> str | None:
    normal = _normal(first)
    if normal is None:
        return None
    return ("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())]


def _normal(dataset: Dataset) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Unit vector across the slices, in the patient's coordinates (PS3.3, C.7.6.2.1.1)."""
    cosines = numbers(dataset, "ImageOrientationPatient")
    if len(cosines) != 6 or None in cosines:
        return None
    values = np.array(cosines, np.float64)
    normal = np.cross(values[:3], values[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.5 else None


def _positions(dataset: Dataset, frames: int) -> tuple[float | None, ...]:
    """Place of every frame along the normal, in millimetres."""
    places = [
        _position(merged(dataset, index, "PlaneOrientationSequence", "PlanePositionSequence"))
        for index in range(frames)
    ]
    return tuple(places) if any(place is not None for place in places) else ()


def _position(frame: Dataset) -> float | None:
    normal, corner = _normal(frame), numbers(frame, "ImagePositionPatient")
    if normal is None or len(corner) != 3 or None in corner:
        return None
    return round(float(normal @ np.array(corner, np.float64)), 3)


def _sequence(first: Dataset) -> str | None:
    """The kind of contrast, from the times in milliseconds and the pulse sequence, as radiologists tell it."""
    kinds = words(first, "ScanningSequence")
    repetition, echo = optional(first, "RepetitionTime"), optional(first, "EchoTime")
    echo = optional(first, "EffectiveEchoTime") if echo is None else echo
    inversion = number(first, "InversionTime", number(first, "InversionTimes", 0))
    if number(first, "DiffusionBValue", 0) > 0:
        return "DWI"
    if repetition is None or echo is None:
        return None
    if inversion >= 1500 and echo >= 60:
        return "FLAIR"
    if 0 < inversion <= 300 and repetition >= 1500:
        return "STIR"
    if "GR" in kinds and "SE" not in kinds:
        return "T1" if echo < 10 else "T2*"
    return _spin_echo(repetition, echo)


def _spin_echo(repetition: float, echo: float) -> str | None:
    if echo <= 35:
        return "T1" if repetition <= 1200 else "PD" if repetition >= 1800 else None
    return "T2" if echo >= 70 and repetition >= 1800 else None


def _contrast(dataset: Dataset) -> bool | None:
    """Whether an agent was given; None if the file does not say it."""
    if items(dataset, "ContrastBolusAgentSequence"):
        return True
    agent = word(dataset, "ContrastBolusAgent")
    return agent not in ("NO", "NONE", "N", "0", "NO CONTRAST", "WITHOUT") if agent else None


def _manufacturer(dataset: Dataset) -> str | None:
    said = word(dataset, "Manufacturer") + " "
    return next((name for part, name in _MAKERS.items() if said.startswith(part) or f" {part}" in said), None)


def _field_strength(dataset: Dataset) -> float | None:
    """Tesla; some write gauss."""
    strength = optional(dataset, "MagneticFieldStrength")
    if strength is None or strength <= 0:
        return None
    return round(strength / 10_000 if strength > 100 else strength, 3)
