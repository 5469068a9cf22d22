"""What a scan is called: its id, its label and the names of its objects."""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum

_SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

MAX_BYTES = 64 * 2**20
"""A larger upload is rejected unread: the largest uncompressed frame within the pixel limit is 50 MB in grey."""


class Label(StrEnum):
    """The folder a scan was uploaded to, which is all that anybody has said about it."""

    CANCER = "Cancer"
    NON_CANCER = "Non-Cancer"
    UNLABELLED = "Unlabelled"


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


def label_of(object_name: str) -> Label:
    """Label of an object by its top folder; anything outside Cancer/ and Non-Cancer/ is unlabelled."""
    folder = object_name.partition("/")[0]
    return Label(folder) if folder in set(Label) else Label.UNLABELLED


LABEL_MAP = {
    "cancer": Label.CANCER,
    "glioma": Label.CANCER,
    "meningioma": Label.CANCER,
    "pituitary": Label.CANCER,
    "yes": Label.CANCER,
    "non-cancer": Label.NON_CANCER,
    "notumor": Label.NON_CANCER,
    "no": Label.NON_CANCER,
    "unlabelled": Label.UNLABELLED,
}
"""Folders of the public brain-tumour sets, and our own, in lower case."""


def parse_label_map(text: str) -> dict[str, Label]:
    """`glioma=Cancer,notumor=Non-Cancer` as a mapping of folder names in lower case; empty is LABEL_MAP.

    Raises ValueError where a pair is not folder=Label.
    """
    if not text:
        return LABEL_MAP
    pairs = (pair.split("=", 1) for pair in text.split(","))
    try:
        return {folder.strip().lower(): Label(label.strip()) for folder, label in pairs}
    except ValueError:
        raise ValueError(f"a label map reads folder=Label,... with labels {', '.join(Label)}, not {text!r}") from None


def mapped_label(path: str, label_map: Mapping[str, Label]) -> Label | None:
    """Label by the deepest folder of a path that the map names; None where it names none."""
    folders = path.lower().split("/")[:-1]
    return next((label_map[folder] for folder in reversed(folders) if folder in label_map), None)


def source_of(metadata: dict[str, str]) -> str:
    """The `source` that an uploader put on the object (kaggle, br35h, ward-3), or `unknown`.

    Only lower-case letters, digits and dashes are taken, 32 at most: free text could name a patient.
    """
    source = metadata.get("source", "")
    return source if _SOURCE.fullmatch(source) else "unknown"


def scan_object(label: Label, scan_id: str, extension: str) -> str:
    """Name of a scan in the scans bucket, e.g. `Cancer/<scan id>.png`."""
    return f"{label}/{scan_id}.{extension}"


def quarantine_object(label: Label, file_id: str) -> str:
    """Name of the record in the quarantine bucket that says why a file was rejected."""
    return f"{label}/{file_id}.json"
