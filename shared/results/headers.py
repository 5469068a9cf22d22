"""Put a result into the study of the scan that it belongs to.

Headers of real scanners break the standard, and highdicom refuses to build on such values. A result is therefore built
on a reference without patient or study, and gets those attributes afterwards, byte for byte as the scan has them: a
PACS that files by them finds the same patient and study.
"""

import io
from datetime import datetime

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue

_SHARED_WITH_STUDY = [
    # Patient module (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    # General Study and Patient Study modules (PS3.3 C.7.2.1, C.7.2.2)
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientWeight",
]
_REQUIRED_EMPTY = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
]
"""Type 2: present, if only empty."""


class NoStudy(Exception):
    """The scan's header does not say which study and series it belongs to, so no result can join them."""


def read_header(content: bytes) -> Dataset:
    """Return a DICOM file's header without pixels, its elements undecoded. Raises NoStudy."""
    header = dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not header.get(keyword):
            raise NoStudy(f"The scan's header has no {keyword}.")
    return header


def reference(header: Dataset) -> Dataset:
    """Return a scan's identity with an empty patient and study, which highdicom takes as evidence."""
    clean = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(clean, keyword, str(header.get(keyword)))
    for keyword in _REQUIRED_EMPTY:
        setattr(clean, keyword, None)
    clean.Rows, clean.Columns = header.get("Rows", 0), header.get("Columns", 0)
    return clean


def join_study(result: Dataset, header: Dataset, answered_at: str) -> None:
    """Give a result the patient and study of a scan, and the time of the answer as its own."""
    if "SpecificCharacterSet" in header:
        result["SpecificCharacterSet"] = _raw(header, "SpecificCharacterSet")
    for keyword in _SHARED_WITH_STUDY:
        if keyword in header:
            result[keyword] = _raw(header, keyword)
        elif keyword in _REQUIRED_EMPTY:
            setattr(result, keyword, None)
    answered = datetime.fromisoformat(answered_at)
    for kind in ("Content", "Series", "InstanceCreation"):
        setattr(result, f"{kind}Date", answered.strftime("%Y%m%d"))
        setattr(result, f"{kind}Time", answered.strftime("%H%M%S"))
    result.TimezoneOffsetFromUTC = answered.strftime("%z") or "+0000"


def encoded(result: Dataset) -> bytes:
    """Return a result object as a DICOM file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, result, enforce_file_format=True)
    return buffer.getvalue()


def text_of(header: Dataset, keyword: str) -> str:
    """Return an attribute as text, empty where it is absent or empty."""
    value = header.get(keyword)
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def _raw(header: Dataset, keyword: str) -> DataElement | RawDataElement:
    """Return an element with the bytes of the file; a tag's representation may be missing there (Implicit VR)."""
    element = header.get_item(keyword)
    if not isinstance(element, RawDataElement):
        return element
    return element._replace(VR=dictionary_VR(element.tag), is_implicit_VR=False, is_little_endian=True)
