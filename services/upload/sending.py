"""Check, convert, send, verify: what happens to each file, many at a time."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image
from tqdm import tqdm

from shared.errors import Reason, RejectedScan
from shared.gcp import storage
from shared.imaging.decoding import decode_scan
from shared.labels import Label
from shared.scan import MAX_BYTES, MAX_VOLUME_BYTES, Placement, file_id, scan_id, scan_object

NOWHERE: Mapping[Path, Placement] = MappingProxyType({})
"""The placements of files of which each stands for itself."""
_WORKERS = 8
_TYPES = {
    "JPEG": ("jpg", "image/jpeg"),
    "PNG": ("png", "image/png"),
    "BMP": ("bmp", "image/bmp"),
    "TIFF": ("tif", "image/tiff"),
    "DICOM": ("dcm", "application/dicom"),
    "NIfTI": ("nii", "application/octet-stream"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    path: Path = field(repr=False)  # may name a patient
    label: Label
    state: str
    """`sent`, `there already`, `copies` of another file, `unreadable`, or a value of Reason."""
    name: str = ""
    """Of its object; empty where there is none."""
    md5: str = ""
    size: int = 0
    """Bytes of the object."""
    scan_ids: tuple[str, ...] = ()
    """Of its pages: by these a person finds the scan again."""


def send(
    files: Sequence[tuple[Path, Label]],
    bucket: str,
    source: str,
    *,
    as_tiff: bool = False,
    placements: Mapping[Path, Placement] = NOWHERE,
) -> list[Outcome]:
    """Send every file that decodes and has not arrived yet, with a progress bar. Raises StorageError.

    `placements` are those of files that are slices of a series.
    """
    arrived = _checksums(bucket, {label for _, label in files})
    one = partial(_send_one, bucket=bucket, source=source, as_tiff=as_tiff, arrived=arrived, placements=placements)
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            return list(tqdm(pool.map(one, files), total=len(files), unit="file", disable=None))
        except BaseException:  # an interruption too: else all files in the queue would still be sent
            pool.shutdown(cancel_futures=True)
            raise


def unverified(bucket: str, outcomes: Sequence[Outcome]) -> int:
    """How many objects are missing in the bucket or differ from what was read here. Raises StorageError."""
    expected = {outcome.name: outcome.md5 for outcome in outcomes if outcome.name}
    found = _checksums(bucket, {outcome.label for outcome in outcomes})
    return sum(found.get(name) != md5 for name, md5 in expected.items())


def _send_one(  # noqa: PLR0913 - one file, and what holds for all of them
    file: tuple[Path, Label],
    *,
    bucket: str,
    source: str,
    as_tiff: bool,
    arrived: dict[str, str],
    placements: Mapping[Path, Placement],
) -> Outcome:
    path, label = file
    try:
        content, file_format, pages = _checked(path, as_tiff)
    except RejectedScan as rejected:
        return Outcome(path, label, rejected.reason)
    except OSError:
        return Outcome(path, label, "unreadable")
    extension, content_type = _TYPES[file_format]
    whole = file_id(content)
    name = scan_object(label, whole, extension)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if name in arrived:
        state = "there already"
    else:
        placement = placements.get(path)
        metadata = {"source": source} | (placement.metadata() if placement else {})
        state = "sent" if storage.create(bucket, name, content, content_type, metadata) else "copies"
    ids = tuple(scan_id(whole, page, pages) for page in range(pages))
    return Outcome(path, label, state, name, md5, len(content), ids)


def _checked(path: Path, as_tiff: bool) -> tuple[bytes, str, int]:
    """The bytes to send, their format and their number of pages. Raises RejectedScan as `decode_scan`, and OSError."""
    if path.stat().st_size > MAX_VOLUME_BYTES:
        raise RejectedScan(Reason.TOO_LARGE_VOLUME)
    content = path.read_bytes()
    decoded = decode_scan(content)
    if not as_tiff or decoded.format == "TIFF":
        return content, decoded.format, len(decoded.pages)
    content = _tiff(decoded.pages)
    if len(content) > MAX_BYTES:
        raise RejectedScan(Reason.TOO_LARGE)
    return content, "TIFF", len(decoded.pages)


def _tiff(pages: Sequence[np.ndarray]) -> bytes:
    """Losslessly compressed TIFF of uint8 (h, w) or (h, w, 3) pages, the same bytes for the same pixels."""
    first, *others = (Image.fromarray(page) for page in pages)
    tiff = io.BytesIO()
    first.save(tiff, "TIFF", compression="tiff_adobe_deflate", save_all=True, append_images=others)
    return tiff.getvalue()


def _checksums(bucket: str, labels: set[Label]) -> dict[str, str]:
    blobs = (blob for label in labels for blob in storage.objects(bucket, f"{label}/"))
    return {blob.name: storage.fingerprint(blob) for blob in blobs}
