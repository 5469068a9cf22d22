"""Cloud Scheduler -> proof that what was uploaded was stored and recorded, or a loud failure."""

import logging
import random
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import flask
import functions_framework

from shared import config, labels, scan
from shared.clock import now
from shared.gcp import bigquery, logs, storage
from shared.gcp.storage import Blob
from shared.labels import Label
from shared.scan import MAX_BYTES

logs.configure()
logger = logging.getLogger(__name__)

_GRACE_S = 900
"""Uploads younger than this may still be under way, so they are left to the next check."""
_SAMPLE = 20
"""Uploads, and as many scans, of each label that are read and hashed again."""

_RECORDED_FILES = """
SELECT label, COUNT(DISTINCT file_id) AS files FROM (
  SELECT label, SPLIT(scan_id, '-')[OFFSET(0)] AS file_id FROM {dataset}.scans_raw WHERE uploaded_at < @before
  UNION ALL
  SELECT label, file_id FROM {dataset}.rejections_raw WHERE uploaded_at < @before
) GROUP BY label
"""
_KNOWN_HASHES = """
SELECT file_id AS hash FROM {dataset}.rejections WHERE label = @label AND file_id IN UNNEST(@hashes)
UNION DISTINCT
SELECT SPLIT(scan_id, '-')[OFFSET(0)] FROM {dataset}.scans
WHERE label = @label AND SPLIT(scan_id, '-')[OFFSET(0)] IN UNNEST(@hashes)
UNION DISTINCT
SELECT content_sha256 FROM {dataset}.scans WHERE label = @label AND content_sha256 IN UNNEST(@hashes)
"""


class IngestionMismatch(Exception):  # noqa: N818 - a finding, not a fault of the code
    """Something that was uploaded is not stored, not recorded, or not what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The counts of one label, in distinct files."""

    label: str
    source_files: int | None
    ingested_files: int | None
    uploaded_files: int
    stored_files: int
    recorded_files: int
    rehashed: int
    mismatched: int

    @property
    def passed(self) -> bool:
        """Whether every count agrees and no hash differs."""
        complete = self.uploaded_files == self.stored_files == self.recorded_files
        return complete and self.source_files == self.ingested_files and self.mismatched == 0


@functions_framework.http
def verify_ingestion(request: flask.Request) -> dict[str, list]:
    """Compare and re-hash all uploads older than `grace_s` seconds, write a row a label.

    Raises IngestionMismatch where they differ, so that Cloud Scheduler sees a failure and alerts.
    """
    before = datetime.now(UTC) - timedelta(seconds=request.args.get("grace_s", _GRACE_S, type=float))
    checks = list(_checks(before))
    check_id, checked_at = str(uuid.uuid4()), now()
    for check in checks:
        row = asdict(check) | {"check_id": check_id, "passed": check.passed, "checked_at": checked_at}
        bigquery.append("ingestion_checks", row, key=f"{check_id}/{check.label}")
    failed = [check for check in checks if not check.passed]
    level = logging.ERROR if failed else logging.INFO
    logger.log(level, "verified", extra={"check_id": check_id, "failed": len(failed)})
    if failed:
        raise IngestionMismatch("; ".join(map(str, failed)))
    return {"checks": [asdict(check) for check in checks]}


def _checks(before: datetime) -> Iterable[Check]:
    arrived = _by_label(storage.objects(config.uploads_bucket()))
    scans = _by_label(blob for blob in storage.objects(config.scans_bucket()) if _uploaded_at(blob) < before)
    rejected = _by_label(blob for blob in storage.objects(config.quarantine_bucket()) if _uploaded_at(blob) < before)
    source = _by_source_label(before) if config.source_bucket() else None
    recorded = {row["label"]: row["files"] for row in bigquery.query(_RECORDED_FILES, before=before)}
    for label in Label:
        uploads = [blob for blob in arrived[label] if blob.time_created < before]
        hashes = _hashes(uploads, scans[label])
        yield Check(
            label=label,
            source_files=None if source is None else len(source[label]),
            ingested_files=None if source is None else len(source[label] & _contents(arrived[label])),
            uploaded_files=len(_contents(uploads)),
            stored_files=len({_file_id(blob) for blob in scans[label] + rejected[label]}),
            recorded_files=recorded.get(label, 0),
            rehashed=len(hashes),
            mismatched=len(hashes - _known(label, hashes)),
        )


def _by_label(blobs: Iterable[Blob]) -> dict[Label, list[Blob]]:
    grouped = defaultdict(list)
    for blob in blobs:
        grouped[labels.label_of(blob.name)].append(blob)
    return grouped


def _contents(blobs: Iterable[Blob]) -> set[str]:
    return {storage.fingerprint(blob) for blob in blobs}


def _by_source_label(before: datetime) -> dict[Label, set[str]]:
    label_map = labels.parse_label_map(config.label_map())
    grouped = defaultdict(set)
    for blob in storage.objects(config.source_bucket(), config.source_prefix()):
        if blob.time_created < before:
            grouped[labels.mapped_label(blob.name, label_map) or Label.UNLABELLED].add(storage.fingerprint(blob))
    return grouped


def _uploaded_at(blob: Blob) -> datetime:
    return datetime.fromisoformat(blob.metadata["uploaded-at"])


def _file_id(blob: Blob) -> str:
    return scan.file_id_of(PurePosixPath(blob.name).stem)


def _hashes(uploads: list[Blob], scans: list[Blob]) -> set[str]:
    """SHA-256 of a random sample, read again from both buckets."""
    sample = random.sample(uploads, min(_SAMPLE, len(uploads))) + random.sample(scans, min(_SAMPLE, len(scans)))
    return {_hash(blob) for blob in sample}


def _hash(blob: Blob) -> str:
    if blob.size > MAX_BYTES:
        return scan.unread_file_id(blob.bucket.name, blob.name, blob.generation)
    return scan.file_id(storage.read(blob.bucket.name, blob.name, blob.generation))


def _known(label: Label, hashes: set[str]) -> set[str]:
    return {row["hash"] for row in bigquery.query(_KNOWN_HASHES, label=str(label), hashes=sorted(hashes))}
