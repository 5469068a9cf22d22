"""What a scan is called: its id, its source and the names of its objects."""

import hashlib
import re
from dataclasses import dataclass

from shared.labels import Label

SOURCE_PATTERN = r"[a-z0-9][a-z0-9-]{0,31}"
"""What a source may be called: free text could name a patient."""
OPTIONAL_SOURCE_PATTERN = f"^(?:{SOURCE_PATTERN})?$"
"""A source, or nothing, as a request may name it."""
_SERIES = re.compile(r"[0-9a-f]{64}")
_MILLIMETRES = re.compile(r"[0-9]{1,5}(\.[0-9]{1,4})?")

SYNTHETIC = "synthetic"
"""Source of the scans that check_pipeline sends: views leave them out, and nobody else may call itself so."""

MAX_BYTES = 64 * 2**20
"""A larger upload is rejected unread, unless it is a volume: the largest uncompressed page is 50 MB in grey."""

MAX_VOLUME_BYTES = 192 * 2**20
"""Of a DICOM or NIfTI file, which may hold hundreds of slices: 512x512x200 of 16 bits are 100 MiB."""


def file_id(content: bytes) -> str:
    """SHA-256 of the uploaded bytes, 64 hexadecimal digits: the same bytes are the same file, whatever their name."""
    return hashlib.sha256(content).hexdigest()


def unread_file_id(bucket: str, name: str, generation: int) -> str:
    """Identity of an object too large to read, from where it lies. As one-way as file_id: it gives no name away."""
    return hashlib.sha256(f"{bucket}/{name}#{generation}".encode()).hexdigest()


def scan_id(file_id: str, page: int, pages: int) -> str:
    """Id of one page (from 0) of a file: the file's id, with `-<page>` (from 1) behind it where there are several."""
    return file_id if pages == 1 else f"{file_id}-{page + 1:04d}"


def file_id_of(scan_id: str) -> str:
    """Id of the file that a scan is a page of."""
    return scan_id.partition("-")[0]


def page_of(scan_id: str) -> int | None:
    """Return the page (from 0) that a scan is of its file; None where the file has one page alone."""
    _, dash, page = scan_id.partition("-")
    return int(page) - 1 if dash else None


def source_of(metadata: dict[str, str]) -> str:
    """The `source` that an uploader put on the object (kaggle, br35h, ward-3), or `unknown`.

    Only lower-case letters, digits and dashes are taken, 32 at most: free text could name a patient.
    """
    source = metadata.get("source", "")
    return source if is_source(source) else "unknown"


def is_source(text: str) -> bool:
    """Return whether a source may be called so."""
    return re.fullmatch(SOURCE_PATTERN, text) is not None


@dataclass(frozen=True, slots=True)
class Placement:
    """The series that an uploader put a file into, and where in it the file lies."""

    series_id: str
    """64 hexadecimal digits that name nobody."""
    position_mm: float

    def metadata(self) -> dict[str, str]:
        """Return what the object carries to say so."""
        return {"series": self.series_id, "slice-position-mm": f"{self.position_mm:g}"}


def placement_of(metadata: dict[str, str]) -> Placement | None:
    """Return the placement that an uploader put on the object; None without one, or where it is malformed."""
    series_id, position = metadata.get("series", ""), metadata.get("slice-position-mm", "")
    if not _SERIES.fullmatch(series_id) or not _MILLIMETRES.fullmatch(position):
        return None
    return Placement(series_id, float(position))


def scan_object(label: Label, scan_id: str, extension: str) -> str:
    """Name of a scan in the scans bucket, e.g. `Cancer/<scan id>.png`."""
    return f"{label}/{scan_id}.{extension}"


def quarantine_object(label: Label, file_id: str) -> str:
    """Name of the record in the quarantine bucket that says why a file was rejected."""
    return f"{label}/{file_id}.json"
