"""Cloud Scheduler -> a verdict on the newest scans: have their inputs or their case mix changed, and since when."""

import json
import logging
import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import functions_framework
import numpy as np

from shared.clock import now
from shared.gcp import bigquery, logs, recent, registry
from shared.gcp.bigquery import Row
from shared.ml import drift, drift_records
from shared.ml.release_files import REFERENCE_FILE

logs.configure()
logger = logging.getLogger(__name__)

_WINDOW_SCANS = 200
_WINDOW_DAYS = 7
_ATTRIBUTES = ("source", "manufacturer", "field_strength_t", "sequence", "plane", "format")

_NEWEST = """
SELECT * FROM (
  SELECT p.scan_id, p.prediction, p.probability, p.predicted_at, f.embedding, f.mean, f.std, f.skewness, f.kurtosis,
    s.source, s.manufacturer, CAST(s.field_strength_t AS STRING) AS field_strength_t, s.plane, s.format,
    CASE WHEN s.sequence = 'T1' AND s.contrast THEN 'T1c' ELSE s.sequence END AS sequence,
    ROW_NUMBER() OVER (
      PARTITION BY IFNULL(s.series_id, SPLIT(p.scan_id, '-')[OFFSET(0)]), p.prediction ORDER BY p.scan_id
    ) AS place
  FROM {recent predictions} AS p
  JOIN {recent features} AS f ON f.scan_id = p.scan_id AND STRPOS(f.feature_version, p.model_version) > 0
  JOIN {recent scans} AS s ON s.scan_id = p.scan_id
  WHERE p.model_version = @version AND p.prediction != 'Not a brain MRI' AND p.predicted_at >= @since
) WHERE place = 1 ORDER BY predicted_at DESC LIMIT @scans
"""
"""One scan of each series and predicted class: the slices of one head are no independent witnesses.

Of the days of the window alone: a view reads its whole table, an embedding a row.
"""

_LAST = (
    "SELECT change, since FROM {dataset}.drift_checks WHERE model_version = @version ORDER BY checked_at DESC LIMIT 1"
)


@functions_framework.http
def check_drift(_request: flask.Request) -> dict[str, Any]:
    """Compare the newest scans with the release's reference, write a row, and log a warning where inputs have changed.

    Raises LookupError before the first release, MissingObject for a release without a reference.
    """
    version = registry.current_version(registry.RELEASES)
    if version is None:
        raise LookupError("The models bucket has no current release: promote one.")
    reference = drift_records.Scans.from_bytes(registry.read_file(registry.RELEASES, version, REFERENCE_FILE))
    since = datetime.now(UTC) - timedelta(days=_WINDOW_DAYS)
    rows = list(recent.query(_NEWEST, since, version=version, scans=_WINDOW_SCANS))
    verdict = drift.check(reference, _scans(rows, reference))
    row = _row(version, rows, verdict)
    bigquery.append("drift_checks", row, key=row["check_id"])
    level = logging.WARNING if verdict.change == "inputs" else logging.INFO
    logger.log(
        level,
        "compared",
        extra={"check_id": row["check_id"], "change": verdict.change, "cause": verdict.cause, "scans": len(rows)},
    )
    return row


def _scans(rows: list[Row], reference: drift_records.Scans) -> drift_records.Scans:
    dimensions = reference.embeddings.shape[1]
    return drift_records.Scans(
        embeddings=np.array([row["embedding"] for row in rows], np.float32).reshape(len(rows), dimensions),
        predicted=[row["prediction"] for row in rows],
        attributes={name: [row[name] or "" for row in rows] for name in _ATTRIBUTES},
        quality=np.array([[row[name] for name in drift_records.QUALITY] for row in rows]).reshape(
            len(rows), len(drift_records.QUALITY)
        ),
    )


def _row(version: str, rows: list[Row], verdict: drift.Verdict) -> dict[str, Any]:
    checked_at = now()
    trusted = rows and verdict.change != "inputs"
    return {
        "check_id": str(uuid.uuid4()),
        "model_version": version,
        "change": verdict.change,
        "cause": verdict.cause,
        "p_value": verdict.p_value,
        "level": verdict.level,
        "scans": len(rows),
        "expected_accuracy": drift.expected_accuracy(np.array([r["probability"] for r in rows])) if trusted else None,
        "tests": json.dumps([asdict(test) for test in verdict.tests]),
        "foreign_scans": [rows[number]["scan_id"] for number in verdict.foreign],
        "since": _since(version, verdict.change, checked_at),
        "checked_at": checked_at,
    }


def _since(version: str, change: str, checked_at: str) -> str:
    """Return when the first of an unbroken run of checks came to this conclusion."""
    last = next(iter(bigquery.query(_LAST, version=version)), None)
    return last["since"].isoformat() if last and last["change"] == change else checked_at
