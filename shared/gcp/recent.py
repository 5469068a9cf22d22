"""Queries on what was recorded lately: BigQuery bills the days that a query reads, and a view reads all of them.

A view leaves out what nobody was given, and keeps one row a key by a window function, below which BigQuery pushes no
condition on another column. So the condition on `recorded_at`, by which the tables are partitioned, stands inside, and
the same choice of rows around it.
"""

import re
from datetime import UTC, datetime, timedelta

from shared.gcp import bigquery
from shared.gcp.bigquery import GIVEN, SENT, Row

KEPT = {
    **dict.fromkeys(("scans", "rejections", "features", "cnn_features", "preprocessing_errors", "series"), SENT),
    "predictions": f"{SENT} AND {GIVEN}",
}
"""Of each view, which rows it keeps; all of the others'."""
KEYS = {
    "scans": ("scan_id, label", "uploaded_at"),
    "rejections": ("file_id, label", "uploaded_at"),
    "predictions": ("scan_id, model_version", "predicted_at"),
    "features": ("scan_id, feature_version", "recorded_at"),
    "cnn_features": ("scan_id, backbone", "recorded_at"),
    "feedback": ("feedback_id", "given_at"),
    "dead_letters": ("dead_letter_id", "exhausted_at"),
    "preprocessing_errors": ("manifest, scan_id, label", "recorded_at"),
    "drift_checks": ("check_id", "checked_at"),
    "series": ("series_id, revision", "answered_at"),
    "slice_scores": ("series_id, scan_id, model_version", "predicted_at"),
}
"""Of each view, what it keeps one row of, and by which time the latest: as terraform/bigquery.tf declares them."""
EVER = datetime(2000, 1, 1, tzinfo=UTC)
"""Before the first row."""

_LATEST = """(
  SELECT * FROM `{{dataset}}.{table}_raw` WHERE recorded_at >= @since AND {kept}{chosen}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {said_at} DESC, recorded_at DESC) = 1)"""

_CHOSEN = " AND scan_id IN (SELECT scan_id FROM {scans})"


def query(sql: str, since: datetime, **parameters: str | float | datetime | list[str]) -> list[Row]:
    """Return the rows of a query; in it `{recent scans}` stands for the view's rows that were recorded since.

    `{recent predictions by scan_id}` stands for the latest of each scan, `{recent predictions in page}` for those of
    the scans of a subquery called `page`. Raises BigQueryError.
    """
    return bigquery.query(expanded(sql), since=since, **parameters)


def expanded(sql: str) -> str:
    """Return the query with its recent tables written out."""
    return re.sub(r"\{recent (\w+)(?: by (\w+))?(?: in (\w+))?\}", lambda found: _latest(*found.groups()), sql)


def back(span: timedelta | None) -> datetime:
    """Return the time so long ago; None: before the first row."""
    return datetime.now(UTC) - span if span else EVER


def _latest(table: str, key: str | None, scans: str | None) -> str:
    known, said_at = KEYS[table]
    kept = KEPT.get(table, "TRUE")
    chosen = _CHOSEN.format(scans=scans) if scans else ""
    return _LATEST.format(table=table, key=key or known, said_at=said_at, kept=kept, chosen=chosen)
