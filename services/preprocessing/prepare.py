"""The scans of one partition: read, checked, prepared, written as Parquet. Runs in the executors."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import Any

from services.preprocessing.partitions import Manifest, parquet
from shared.errors import RejectedScan
from shared.events import ScanAccepted
from shared.gcp import storage
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import PREPROCESSING_VERSION, prepare
from shared.ml.dataset import SCHEMA, TRAINING_SCANS, partition_object, prepared_object, preview, split_of

_READERS = 8
"""Objects read at a time, while the task's one core decodes: a read is mostly waiting."""

_AHEAD_BYTES = 16 << 20
"""Stored bytes read ahead of decoding, which bounds what a task holds."""


class Problem(StrEnum):
    """Why a scan of the manifest was not prepared, beside the reasons for which a file is rejected."""

    VANISHED = "vanished since the manifest"
    CHANGED = "changed since the manifest"


class ChangedScan(Exception):
    """The object is not the one that was accepted."""


def prepare_partition(manifest: Manifest, number: int) -> dict[str, Any]:
    """Prepare one partition, and last record the result in an object, by which a second run knows that it is done.

    Return the `partition`, how many `scans` and `bytes` were prepared, `errors` (scan id, label, source and reason of
    the others), and the names of the `objects` written.
    """
    scans = manifest.partition(number)
    rows: dict[str, list[dict[str, Any]]] = {scan.label: [] for scan in scans}
    errors, size = [], 0
    for scan, content in _read_ahead(scans):
        try:
            rows[scan.label].append(prepared_row(scan, content.result()))
            size += scan.size
        except storage.MissingObject:
            errors.append(_error(scan, Problem.VANISHED))
        except ChangedScan:
            errors.append(_error(scan, Problem.CHANGED))
        except RejectedScan as rejection:
            errors.append(_error(scan, rejection.reason))
    objects = {prepared_object(label, manifest.id, number): prepared for label, prepared in rows.items()}
    for name, prepared in objects.items():  # an empty one too, so that a second run leaves nothing of the first
        training = sum(row["split"] == "train" for row in prepared)
        storage.write(manifest.bucket, name, *parquet(prepared, SCHEMA), metadata={TRAINING_SCANS: str(training)})
    done = {
        "partition": number,
        "scans": len(scans) - len(errors),
        "bytes": size,
        "errors": errors,
        "objects": sorted(objects),
    }
    storage.write(manifest.bucket, partition_object(manifest.id, number), json.dumps(done).encode(), "application/json")
    return done


def prepared_row(scan: ScanAccepted, content: bytes) -> dict[str, Any]:
    """Row of shared.ml.dataset.SCHEMA of a scan from its object's bytes. Raises ChangedScan, RejectedScan."""
    if hashlib.sha256(content).hexdigest() != scan.content_sha256:
        raise ChangedScan
    tensor = prepare(decode(content).pages[0])
    return {
        "scan_id": scan.scan_id,
        "label": scan.label,
        "source": scan.source,
        "type": None,  # an event tells the label alone
        "person": scan.study_id,
        "split": split_of(scan.scan_id),
        "image": tensor.tobytes(),
        "preview": preview(tensor),
        "preprocessing_version": PREPROCESSING_VERSION,
    }


def _read_ahead(scans: Sequence[ScanAccepted]) -> Iterator[tuple[ScanAccepted, Future[bytes]]]:
    """Each scan with its object's bytes, which are fetched while those before it are decoded."""
    ahead: deque[tuple[ScanAccepted, Future[bytes]]] = deque()
    held = 0
    with ThreadPoolExecutor(_READERS) as readers:
        for scan in scans:
            while ahead and held + scan.size > _AHEAD_BYTES:
                held -= ahead[0][0].size
                yield ahead.popleft()
            ahead.append((scan, readers.submit(storage.read, scan.bucket, scan.name)))
            held += scan.size
        yield from ahead


def _error(scan: ScanAccepted, reason: str) -> dict[str, str]:
    return {"scan_id": scan.scan_id, "label": scan.label, "source": scan.source, "reason": reason}
