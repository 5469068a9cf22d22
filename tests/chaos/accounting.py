"""Exact accounting: each uploaded file against what the tables and buckets hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local.stack.system import BUCKETS
from shared.gcp import bigquery, storage
from shared.scan import file_id


@dataclass(frozen=True, slots=True)
class File:
    """A file to upload, and what it must become."""

    object_name: str
    content: bytes
    pages: int
    """Scans that it holds; 0 if it must be rejected."""

    @property
    def id(self) -> str:
        """Its file id."""
        return file_id(self.content)


@dataclass(frozen=True, slots=True)
class Account:
    """What is wrong. All empty: every file ended once, whole."""

    missing: Sequence[str]
    """Files without a row for each scan, a prediction and features of each, or without a rejection."""
    doubled: Sequence[str]
    """Scans that a keyed view shows more than once."""
    contradicted: Sequence[str]
    """Files both accepted and rejected, or the one instead of the other."""
    altered: Sequence[str]
    """Scans whose object has other bytes than their row says."""

    @property
    def is_complete(self) -> bool:
        """Whether every file ended."""
        return not self.missing


def account(files: Sequence[File]) -> Account:
    """Return what the system made of the files. Object content is read only once nothing is missing."""
    tables = {name: _rows(name, column) for name, column in _TABLES.items()}
    accepted: dict[str, set[str]] = {}
    for scan_id in tables["scans"]:
        accepted.setdefault(scan_id.partition("-")[0], set()).add(scan_id)
    rejected = set(tables["rejections"])
    predicted, featured = set(tables["predictions"]), set(tables["features"])
    missing = []
    for file in files:
        scans = accepted.get(file.id, set())
        is_done = len(scans & predicted & featured) == file.pages if file.pages else file.id in rejected
        if not is_done:
            missing.append(file.id)
    doubled = [f"{name} {key}" for name, rows in tables.items() for key, count in rows.items() if count > 1]
    wrong = {file.id for file in files if (file.id in rejected) == bool(file.pages)} | (rejected & accepted.keys())
    contradicted = sorted(wrong - set(missing))
    return Account(missing, doubled, contradicted, [] if missing else _altered())


_TABLES = {"scans": "scan_id", "predictions": "scan_id", "features": "scan_id", "rejections": "file_id"}


def _rows(table: str, column: str) -> dict[str, int]:
    found = bigquery.query(f"SELECT {column} AS id, COUNT(*) AS n FROM {{dataset}}.{table} GROUP BY {column}")
    return {row["id"]: row["n"] for row in found}


def _altered() -> list[str]:
    rows: list[dict[str, Any]] = bigquery.query("SELECT scan_id, object_name, content_sha256 FROM {dataset}.scans")
    return [row["scan_id"] for row in rows if _sha256(row["object_name"]) != row["content_sha256"]]


def _sha256(name: str) -> str:
    return hashlib.sha256(storage.read(BUCKETS["scans"], name)).hexdigest()
