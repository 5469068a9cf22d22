"""Find and erase what was made of an uploaded file: versions of objects, rows of Parquet files, rows of tables."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.erase import prepared
from shared import config
from shared.gcp import bigquery, storage
from shared.gcp.bigquery import Row
from shared.gcp.storage import Blob
from shared.labels import Label
from shared.scan import MAX_VOLUME_BYTES, unread_file_id

_KEYS = ("scan_id", "file_id")
"""Columns that tell a row's scan or file."""
_RECORD = "erasures"
"""What this command itself says it did: that stays, however often it runs."""
_LAST = "scans"
"""Erased after all other tables: its rows lead to the objects, so a run that was interrupted finds them again."""


@dataclass(slots=True)
class Erasure:
    """What a run found and erased. Ids and counts only: no name of an object."""

    file_id: str
    objects: int = 0
    """Versions of objects: uploads, scans, quarantine records, and earlier ones of the prepared bucket."""
    files_rewritten: int = 0
    """Objects of the prepared bucket that held rows of the file among others."""
    rows: int = 0
    """Rows of tables, duplicates included."""
    releases: list[str] = field(default_factory=list)
    """Releases, and sites' calibrations, that were tested on the file or learnt from it: a report may show it, so a
    person decides."""


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
    done.files_rewritten = prepared.rewrite(file_id, dry_run=dry_run)
    for blob in prepared.earlier_versions(file_id):
        done.objects += 1
        if not dry_run:
            storage.erase(blob)
    done.releases = sorted(set(_releases(file_id)))
    for table, condition, parameters in _table_rows(file_id, known):
        done.rows += bigquery.count(table, condition, **parameters)
        if not dry_run:
            bigquery.delete(table, condition, **parameters)
    return done


def _rows_of(file_id: str) -> list[Row]:
    """Return what the tables know of the file's uploads: checksum, generation, series."""
    scans = "SELECT content_md5, generation, series_id FROM {dataset}.scans_raw WHERE STARTS_WITH(scan_id, @id)"
    # One without a checksum was too large to be read: its generation tells it.
    rejected = """
    SELECT IFNULL(content_md5, '') AS content_md5, generation, NULL AS series_id
    FROM {dataset}.rejections_raw WHERE file_id = @id
    """
    return bigquery.query(scans, id=file_id) + bigquery.query(rejected, id=file_id)


def _objects(file_id: str, known: list[Row]) -> Iterator[Blob]:
    for label in Label:
        for bucket in (config.scans_bucket(), config.quarantine_bucket()):
            yield from storage.versions(bucket, f"{label}/{file_id}")
    generations = {row["generation"] for row in known}
    checksums = {row["content_md5"] for row in known}
    for blob in storage.versions(config.uploads_bucket()):
        # If nothing is recorded yet, or not its checksum, nothing tells an upload but its bytes: then all are read.
        all_read = not known or None in checksums or not blob.md5_hash
        if (all_read or blob.generation in generations or blob.md5_hash in checksums) and _is_of(blob, file_id):
            yield blob


def _is_of(blob: Blob, file_id: str) -> bool:
    """Return whether an upload is the file. Two uploads of one microsecond have the same generation."""
    bucket, name = blob.bucket.name, blob.name
    if unread_file_id(bucket, name, blob.generation) == file_id:
        return True
    if blob.size > MAX_VOLUME_BYTES:
        return False
    return hashlib.sha256(storage.read(bucket, name, blob.generation)).hexdigest() == file_id


def _releases(file_id: str) -> Iterator[str]:
    """Yield `<version>` of each release and `<source>/<version>` of each calibration that names the file in a list."""
    for folder, depth in (("releases/", 2), ("calibrations/", 3)):
        for blob in storage.objects(config.models_bucket(), folder):
            if blob.name.endswith((".txt", ".csv")) and file_id.encode() in storage.read(blob.bucket.name, blob.name):
                yield "/".join(blob.name.split("/")[1:depth])


def _table_rows(file_id: str, known: list[Row]) -> Iterator[tuple[str, str, dict[str, str | list[str]]]]:
    """Yield table, condition and its parameters of every table that can name a scan, a file or a series."""
    series = sorted({row["series_id"] for row in known if row["series_id"]})
    tables = bigquery.raw_tables()
    for table in sorted(tables.keys() - {_RECORD}, key=lambda name: (name == _LAST, name)):
        if condition := _condition(tables[table], has_series=bool(series)):
            parameters: dict[str, str | list[str]] = {"id": file_id, "series": series}
            yield table, condition, {name: value for name, value in parameters.items() if f"@{name}" in condition}


def _condition(columns: Mapping[str, bool], *, has_series: bool) -> str:
    """Return the condition of a table's rows that name the file: as their own, in a list, or by an answer's series.

    `columns` tells which columns hold lists. Empty for a table that names none.
    """
    own = [f"STARTS_WITH({name}, @id)" for name in _KEYS if name in columns]
    listed = [
        f"STRPOS(ARRAY_TO_STRING({name}, ' '), @id) > 0"
        for name, is_list in columns.items()
        if is_list and "scan" in name
    ]
    answered = ["series_id IN UNNEST(@series)"] if has_series and "series_id" in columns and not own else []
    return " OR ".join(own + listed + answered)
