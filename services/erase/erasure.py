"""Find and erase what was made of an uploaded file: versions of objects, rows of Parquet files, rows of tables."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared import config
from shared.gcp import bigquery, storage
from shared.gcp.bigquery import Row
from shared.gcp.storage import Blob
from shared.labels import Label
from shared.ml.dataset import TRAINING_SCANS

_KEYS = ("scan_id", "file_id")
"""Columns that tell a row's scan or file."""
_LAST = "scans"
"""Erased after all other tables: its rows lead to the objects, so a run that was interrupted finds them again."""


@dataclass(slots=True)
class Erasure:
    """What a run found and erased. Ids and counts only: no name of an object."""

    file_id: str
    objects: int = 0
    """Versions of objects: uploads, scans and quarantine records."""
    files_rewritten: int = 0
    """Objects of the prepared bucket that held rows of the file among others."""
    rows: int = 0
    """Rows of tables, duplicates included."""
    releases: list[str] = field(default_factory=list)
    """Releases that were tested on the file or learnt from it: their reports may show it, so a person decides."""


def erase(file_id: str, *, dry_run: bool = False) -> Erasure:
    """Erase whatever was made of an uploaded file. A second run finds what the first one left.

    Raises StorageError, and BigQueryError, which also means that rows are younger than BigQuery lets anybody delete.
    """
    done = Erasure(file_id)
    known = _rows_of(file_id)
    for blob in _objects(file_id, known):
        done.objects += 1
        if not dry_run:
            storage.erase(blob)
    for blob in storage.objects(config.prepared_bucket()):
        done.files_rewritten += _rewrite(blob, file_id, dry_run)
    done.releases = sorted(set(_releases(file_id)))
    for table, condition, parameters in _table_rows(file_id, known):
        done.rows += bigquery.count(table, condition, **parameters)
        if not dry_run:
            bigquery.delete(table, condition, **parameters)
    return done


def _rows_of(file_id: str) -> list[Row]:
    """Return what the tables know of the file's uploads: checksum, generation, series."""
    scans = "SELECT content_md5, generation, series_id FROM {dataset}.scans_raw WHERE STARTS_WITH(scan_id, @id)"
    rejected = "SELECT content_md5, generation, NULL AS series_id FROM {dataset}.rejections_raw WHERE file_id = @id"
    return bigquery.query(scans, id=file_id) + bigquery.query(rejected, id=file_id)


def _objects(file_id: str, known: list[Row]) -> Iterator[Blob]:
    for label in Label:
        for bucket in (config.scans_bucket(), config.quarantine_bucket()):
            yield from storage.versions(bucket, f"{label}/{file_id}")
    generations = {row["generation"] for row in known}
    checksums = {row["content_md5"] for row in known}
    for blob in storage.versions(config.uploads_bucket()):
        # Rows from before the checksum was recorded cannot tell an upload: then all are read.
        asked = blob.generation in generations or blob.md5_hash in checksums or not blob.md5_hash or None in checksums
        if asked and (blob.generation in generations or _sha256(blob) == file_id):
            yield blob


def _sha256(blob: Blob) -> str:
    return hashlib.sha256(storage.read(blob.bucket.name, blob.name, blob.generation)).hexdigest()


def _rewrite(blob: Blob, file_id: str, dry_run: bool) -> bool:
    """Write an object of the prepared bucket again without the file's rows; return whether it held any."""
    content = storage.read(blob.bucket.name, blob.name, blob.generation)
    kept, metadata = content, dict(blob.metadata or {})
    if blob.name.endswith(".parquet"):
        kept, metadata = _without_rows(content, metadata, file_id)
    elif file_id.encode() in content:
        kept = b"".join(line for line in content.splitlines(keepends=True) if file_id.encode() not in line)
    if kept == content:
        return False
    if not dry_run:
        _replace(blob, kept, metadata)
    return True


def _replace(blob: Blob, content: bytes, metadata: dict[str, str]) -> None:
    """Write an object again and erase its other versions."""
    bucket, name = blob.bucket.name, blob.name
    if not storage.replace(bucket, name, content, blob.content_type, generation=blob.generation, metadata=metadata):
        raise storage.StorageError("Cloud Storage: another writer changed an object of the prepared bucket")
    current = storage.stat(bucket, name)
    for version in storage.versions(bucket, name):
        if current and version.name == name and version.generation != current.generation:
            storage.erase(version)


def _without_rows(content: bytes, metadata: dict[str, str], file_id: str) -> tuple[bytes, dict[str, str]]:
    table = pq.read_table(io.BytesIO(content))
    if "scan_id" not in table.column_names:
        return content, metadata
    kept = table.filter(pc.invert(pc.starts_with(table["scan_id"], file_id)))
    if len(kept) == len(table):
        return content, metadata
    file = io.BytesIO()
    pq.write_table(kept, file, compression="zstd", compression_level=1)
    if TRAINING_SCANS in metadata:
        metadata[TRAINING_SCANS] = str(kept["split"].to_pylist().count("train"))
    return file.getvalue(), metadata


def _releases(file_id: str) -> Iterator[str]:
    for blob in storage.objects(config.models_bucket(), "releases/"):
        if blob.name.endswith((".txt", ".csv")) and file_id.encode() in storage.read(blob.bucket.name, blob.name):
            yield blob.name.split("/")[1]


def _table_rows(file_id: str, known: list[Row]) -> Iterator[tuple[str, str, dict[str, str | list[str]]]]:
    """Yield table, condition and its parameters: by scan or file, and results of a series by its series."""
    series = sorted({row["series_id"] for row in known if row["series_id"]})
    tables = bigquery.raw_tables()
    for table in sorted(tables, key=lambda name: (name == _LAST, name)):
        columns = tables[table]
        if key := next((name for name in _KEYS if name in columns), None):
            yield table, f"STARTS_WITH({key}, @id)", {"id": file_id}
        elif "series_id" in columns and series:
            yield table, "series_id IN UNNEST(@series)", {"series": series}
