"""The account of ingestion: buckets listed, tables streamed, both compared."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

from shared import config, scan
from shared.gcp import bigquery, storage
from shared.gcp.storage import Blob
from shared.intake.reconciliation import UNDONE, Check, Entry, State, missing, sorted_stream, upload_key, upload_states
from shared.labels import Label, label_of, parse_label_map
from shared.scan import SYNTHETIC, source_of

_SAMPLE = 20
"""Uploads of each label that are read and hashed again."""
_SOURCE_GRACE_S = 3600
"""ingest_scans copies every quarter of an hour, and a large batch takes a while."""
_RECORDS = """
SELECT generation, label, IFNULL(content_md5, '') AS content,
  IF(COUNT(DISTINCT page) >= MAX(pages), 'accepted', 'incomplete') AS state
FROM {dataset}.scans_raw
WHERE generation IS NOT NULL AND uploaded_at < @started AND {sent} GROUP BY generation, label, content
UNION ALL
SELECT DISTINCT generation, label, IFNULL(content_md5, ''), 'rejected'
FROM {dataset}.rejections_raw WHERE uploaded_at < @started AND {sent}
"""
"""Without the scans that check_pipeline sends over and over, and looks after itself."""
_OBJECTS = "SELECT DISTINCT object_name FROM {dataset}.scans_raw WHERE accepted_at < @before"
_KNOWN_HASHES = """
SELECT file_id AS hash FROM {dataset}.rejections_raw WHERE label = @label AND file_id IN UNNEST(@hashes)
UNION DISTINCT
SELECT SPLIT(scan_id, '-')[OFFSET(0)] FROM {dataset}.scans_raw
WHERE label = @label AND SPLIT(scan_id, '-')[OFFSET(0)] IN UNNEST(@hashes)
UNION DISTINCT
SELECT content_sha256 FROM {dataset}.scans_raw WHERE label = @label AND content_sha256 IN UNNEST(@hashes)
"""


class _Sample:
    """A random sample of a stream whose length nobody knows (Vitter's algorithm R, 1985)."""

    def __init__(self) -> None:
        self.kept: list[Blob] = []
        self._seen = 0

    def offer(self, blob: Blob) -> None:
        """Keep the object with the right probability."""
        self._seen += 1
        if len(self.kept) < _SAMPLE:
            self.kept.append(blob)
        elif (place := random.randrange(self._seen)) < _SAMPLE:  # noqa: S311 - a sample, not a secret
            self.kept[place] = blob


def account(before: datetime) -> list[Check]:
    """Return a check per label of all that was uploaded, recorded and stored; uploads since `before` are under way.

    Raises StorageError, BigQueryError.
    """
    checks = {label: Check(label=label) for label in Label}
    samples: dict[Label, _Sample] = defaultdict(_Sample)
    for entry, state in _states(before, samples):
        checks[Label(entry.label)].states[state] += 1
    _compare_scans(checks, samples, before)
    if config.source_bucket():
        _compare_source(checks, before)
    for label, check in checks.items():
        hashes = {digest for digest in map(_hash, samples[label].kept) if digest}
        known = bigquery.query(_KNOWN_HASHES, label=str(label), hashes=sorted(hashes))
        check.rehashed, check.mismatched = len(hashes), len(hashes - {row["hash"] for row in known})
    return list(checks.values())


def undone_uploads(before: datetime) -> Iterator[Entry]:
    """Yield the uploads made before then that are recorded nowhere, or not with all their pages."""
    return (entry for entry, state in _states(before, defaultdict(_Sample)) if state in UNDONE)


def _states(before: datetime, samples: dict[Label, _Sample]) -> Iterator[tuple[Entry, State]]:
    """Every upload with its state; a random sample of each label is kept on the way."""
    started = datetime.now(UTC)
    uploads = sorted_stream(_uploads(samples, before), Entry._make)
    records = sorted_stream(_records(started), Entry._make)
    return upload_states(uploads, records, before.isoformat())


def _uploads(samples: dict[Label, _Sample], before: datetime) -> Iterator[Entry]:
    for blob in storage.objects(config.uploads_bucket()):
        if source_of(blob.metadata or {}) == SYNTHETIC:
            continue
        label = label_of(blob.name)
        if blob.time_created < before:
            samples[label].offer(blob)
        created = blob.time_created.astimezone(UTC).isoformat()
        yield Entry(upload_key(blob.generation, label), blob.md5_hash or "", label, created, blob.name)


def _records(started: datetime) -> Iterator[Entry]:
    for row in bigquery.stream(_RECORDS, started=started):
        key = upload_key(row["generation"], row["label"])
        yield Entry(key, row["content"], row["label"], "", row["state"])


def _compare_scans(checks: dict[Label, Check], samples: dict[Label, _Sample], before: datetime) -> None:
    """Count the scans that are recorded, and those of them that have no object; sample the objects."""
    scan_samples: dict[Label, _Sample] = defaultdict(_Sample)

    def recorded() -> Iterator[str]:
        for row in bigquery.stream(_OBJECTS, before=before):
            checks[_folder(row["object_name"])].scans += 1
            yield row["object_name"]

    def stored() -> Iterator[str]:
        for blob in storage.objects(config.scans_bucket()):
            if blob.time_created < before:
                scan_samples[_folder(blob.name)].offer(blob)
            yield blob.name

    for name in missing(sorted_stream(recorded(), str), sorted_stream(stored(), str)):
        checks[_folder(name)].unstored += 1
    for label, sample in scan_samples.items():
        samples[label].kept += sample.kept


def _compare_source(checks: dict[Label, Check], before: datetime) -> None:
    """Count the distinct files of the source bucket, and those of them that were not copied."""
    label_map = parse_label_map(config.label_map())
    settled = before - timedelta(seconds=_SOURCE_GRACE_S)

    def source() -> Iterator[str]:
        for blob in storage.objects(config.source_bucket(), config.source_prefix()):
            if blob.time_created < settled:
                yield f"{label_of(blob.name, label_map)}/{storage.fingerprint(blob)}"

    def copied() -> Iterator[str]:
        for blob in storage.objects(config.uploads_bucket()):
            yield f"{label_of(blob.name)}/{storage.fingerprint(blob)}"

    def counted() -> Iterator[str]:
        for name, _ in groupby(sorted_stream(source(), str)):
            checks[_folder(name)].source_files = (checks[_folder(name)].source_files or 0) + 1
            yield name

    for check in checks.values():
        check.source_files = 0
    for name in missing(counted(), sorted_stream(copied(), str)):
        checks[_folder(name)].uncopied_files += 1


def _folder(name: str) -> Label:
    """Label that the name of a scan's object begins with; other objects are nobody's scans."""
    return label_of(name.partition("/")[0] + "/")


def _hash(blob: Blob) -> str | None:
    """SHA-256 of an upload, read again; None for one that is too large to be read here, or gone meanwhile."""
    if blob.size > scan.MAX_BYTES:
        return None
    try:
        return scan.file_id(storage.read(blob.bucket.name, blob.name, blob.generation))
    except storage.MissingObject:
        return None
