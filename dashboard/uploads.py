"""What a person drops: files, the files inside a zip, and the DICOM series that they make up.

All of it stays in the session's memory. A file's name is shown to the person who dropped it, and goes nowhere else.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dashboard.inference_client import RefusedFile

MAX_ZIP_FILES = 2_000
MAX_ZIP_BYTES = 512 * 2**20
"""Of a zip's files when unpacked: a study of 2,000 slices, and no bomb."""
_ZIP = b"PK\x03\x04"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax whose whole data set is compressed: its header cannot be read without unpacking everything."""
_TAGS = [
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "PixelSpacing",
    "Rows",
    "SeriesInstanceUID",
]
_DICOM_ERRORS = (InvalidDicomError, AttributeError, EOFError, KeyError, OSError, TypeError, ValueError)
"""What pydicom raises for a header that is none."""


@dataclass(slots=True)
class Part:
    """One file, as long as it is not read."""

    name: str
    key: str
    """SHA-256 of its bytes."""
    content: bytes | None
    """None once the service has answered, so that a session does not keep a study twice."""
    uri: str | None = None
    """Object of the scans bucket that is read instead."""
    source: str = ""
    """Where that scan came from: a commissioned site's own calibration then answers."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Something to look at: a file, or the files of one DICOM series in their order along the body."""

    title: str
    key: str
    parts: tuple[Part, ...]
    extent_mm: float | None = None
    """Length of the image's longer side, if the header says how large a pixel is."""


@dataclass(frozen=True, slots=True)
class _Place:
    series: str
    position: float
    extent_mm: float | None


def part(name: str, content: bytes) -> Part:
    """Return a file as it was dropped."""
    return Part(name, hashlib.sha256(content).hexdigest(), content)


def unpacked(name: str, content: bytes) -> Iterator[Part]:
    """Yield the file, or those inside it if it is a zip. Raises RefusedFile."""
    if not content.startswith(_ZIP):
        yield part(name, content)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in _entries(archive):
                yield part(entry.filename, archive.read(entry))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise RefusedFile("The zip is damaged, or packed unusually. Pack it again, or drop its files.") from error


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files that may be scans. Raises RefusedFile if they are too many, too large or locked."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_litter(entry.filename)]
    if any(entry.flag_bits & 1 for entry in entries):
        raise RefusedFile("The zip asks for a password. Unpack it, and drop its files.")
    if len(entries) > MAX_ZIP_FILES or sum(entry.file_size for entry in entries) > MAX_ZIP_BYTES:
        limit = f"{MAX_ZIP_FILES:,} files or {MAX_ZIP_BYTES >> 20} MiB"
        raise RefusedFile(f"The zip holds more than {limit}. Drop one study at a time.")
    return entries


def _is_litter(name: str) -> bool:
    """Whether an archive's entry is one that systems add of themselves."""
    path = PurePosixPath(name)
    return path.parts[0] == "__MACOSX" or path.name.startswith(".") or path.name == "DICOMDIR"


def grouped(parts: Iterable[Part]) -> list[Upload]:
    """Return what to look at, in the order of the drop; the instances of a DICOM series become one."""
    groups: dict[str, list[tuple[float, Part]]] = {}
    extents: dict[str, float | None] = {}
    for each in parts:
        place = _place(each.content or b"")
        group = place.series if place else each.key
        members = groups.setdefault(group, [])
        if all(each.key != other.key for _, other in members):  # the same file dropped twice is one
            members.append((place.position if place else 0.0, each))
        extents.setdefault(group, place.extent_mm if place else None)
    return [_upload(members, extents[group]) for group, members in groups.items()]


def _upload(members: list[tuple[float, Part]], extent_mm: float | None) -> Upload:
    ordered = tuple(part for _, part in sorted(members, key=lambda member: member[0]))
    first = min(ordered, key=lambda part: part.name).name
    title = first if len(ordered) == 1 else f"{first} and {len(ordered) - 1} more of its series"
    key = hashlib.sha256("".join(part.key for part in ordered).encode()).hexdigest()
    return Upload(title, key, ordered, extent_mm)


def _place(content: bytes) -> _Place | None:
    """Return where a DICOM instance lies in its series; None for any other file. Nothing of it is kept."""
    if content[128:132] != b"DICM" or _DEFLATED in content[:4096]:
        return None
    try:
        header = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=_TAGS)
        if not header.get("SeriesInstanceUID"):
            return None
        series = hashlib.sha256(str(header.SeriesInstanceUID).encode()).hexdigest()
        return _Place(series, _position(header), _extent_mm(header))
    except _DICOM_ERRORS:
        return None  # the service says what is wrong with the file


def _position(header: Dataset) -> float:
    """Return the place along the slices' normal in mm (PS3.3, C.7.6.2.1.1), or else the instance's number."""
    place, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if place and axes and len(place) == 3 and len(axes) == 6:
        (a, b, c), (d, e, f) = axes[:3], axes[3:]
        normal = (b * f - c * e, c * d - a * f, a * e - b * d)
        return float(sum(along * across for along, across in zip(place, normal, strict=True)))
    return float(header.get("InstanceNumber") or 0)


def _extent_mm(header: Dataset) -> float | None:
    """Return the length of the image's longer side; PixelSpacing gives the rows' distance first."""
    spacing = header.get("PixelSpacing")
    if not spacing or len(spacing) != 2 or min(spacing) <= 0:
        return None
    return max(float(spacing[0]) * int(header.Rows), float(spacing[1]) * int(header.Columns))
