"""The scans that came through the bucket, and how far each has come.

Like all queries of the dashboard: one row a key as the views keep it, values as parameters, every answer bounded.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import streamlit as st

from shared import config
from shared.gcp import recent
from shared.gcp.bigquery import Row, query

PAGE_ROWS = 50
REFRESH_S = config.live_refresh_seconds()
"""A live worklist asks so often: BigQuery bills each time for the days looked back on."""
WINDOWS = {
    "Last day": timedelta(days=1),
    "Last week": timedelta(days=7),
    "Last 30 days": timedelta(days=30),
    "Everything": None,
}
"""What the worklist looks back on, by when a file was recorded."""

SORTS = {
    "Newest first": "uploaded_at DESC, scan_id",
    "Oldest first": "uploaded_at, scan_id",
    "Most urgent first": "probability DESC, uploaded_at DESC, scan_id",
    "Nearest to the threshold first": "IF(probability IS NULL, 2, ABS(probability - threshold)), scan_id",
}
"""Orders of the worklist. A scan without a prediction has no urgency and comes last."""

FILTERS = {
    "label": "label = @label",
    "source": "source = @source",
    "prediction": "prediction = @prediction",
    "search": "STARTS_WITH(scan_id, @search)",
}
"""Conditions that carry a value."""
STATUSES = {
    "Waiting for a score": "reason IS NULL AND predicted_at IS NULL",
    "Scored": "predicted_at IS NOT NULL",
    "Features written": "scan_id IN (SELECT scan_id FROM {recent features})",
    "Prepared": "scan_id IN (SELECT scan_id FROM {recent cnn_features})",
    "Rejected": "reason IS NOT NULL",
}
"""Conditions on how far a file has come."""

# Features are not looked up here: whether they are written stands beside the list, and as a status one can ask for.
_LIST = """
WITH arrived AS (
  SELECT scan_id, label, source, uploaded_at, CAST(NULL AS STRING) AS reason FROM {recent scans}
  UNION ALL SELECT file_id, label, source, uploaded_at, reason FROM {recent rejections}
), {page}, heard AS (
  SELECT scan_id, COUNTIF(agrees) AS agreed, COUNTIF(NOT agrees AND reading != 'Cannot tell') AS disagreed
  FROM {recent feedback in page} GROUP BY scan_id
)
SELECT *, predicted_at IS NOT NULL AS is_scored FROM {listed} LEFT JOIN heard USING (scan_id) ORDER BY {order}
"""
_PAGE = """page AS (
  SELECT *, COUNT(*) OVER () AS total FROM {matching} {conditions} ORDER BY {order} LIMIT {limit} OFFSET {offset}
)"""
_SCORED = "scored AS (SELECT scan_id, prediction, probability, threshold, predicted_at FROM {predictions})"
_ANSWERED = "LEFT JOIN scored USING (scan_id)"
_OF_ALL = {
    "page": f"{_SCORED}, {_PAGE}",
    "predictions": "{recent predictions by scan_id}",
    "matching": f"arrived {_ANSWERED}",
    "listed": "page",
}
"""Where order or conditions ask for an answer, all scans must have theirs first."""
_OF_A_PAGE = {
    "page": f"{_PAGE}, {_SCORED}",
    "predictions": "{recent predictions by scan_id in page}",
    "matching": "arrived",
    "listed": f"page {_ANSWERED}",
}
"""Otherwise answers are looked up for the page's fifty rows alone: it takes half the time."""
_ANSWERS = ("predict", "probability")
"""Columns of an answer, by how they begin."""


@st.cache_data(ttl=REFRESH_S, max_entries=200, show_spinner=False)
def worklist(window: str, sort: str, status: str | None, filters: Mapping[str, str], page: int) -> list[Row]:
    """One page (from 1) of files that came through the bucket; `total` counts all that match. Raises BigQueryError.

    `window` is one of WINDOWS, `filters` gives values for some of FILTERS, `status` is one of STATUSES.
    """
    sql = worklist_sql(sort, status, filters, page)
    return recent.query(sql, since=recent.back(WINDOWS[window]), **filters)


def worklist_sql(sort: str, status: str | None, filters: Mapping[str, str], page: int) -> str:
    """Return the worklist's query."""
    conditions = [FILTERS[name] for name in filters] + ([STATUSES[status]] if status else [])
    asks_for_answers = any(column in text for text in (*conditions, SORTS[sort]) for column in _ANSWERS)
    parts = (_OF_ALL if asks_for_answers else _OF_A_PAGE) | {
        "conditions": f"WHERE {' AND '.join(conditions)}" if conditions else "",
        "order": SORTS[sort],
        "limit": str(PAGE_ROWS),
        "offset": str((page - 1) * PAGE_ROWS),
    }
    sql = _LIST
    for name, part in parts.items():  # only constants of this module and whole numbers go into the text
        sql = sql.replace(f"{{{name}}}", part)
    return sql


@st.cache_data(ttl=300, show_spinner=False)
def sources(window: str) -> list[str]:
    """Return every source that has sent a scan in the time looked back on, at most 200. Raises BigQueryError."""
    sql = """
    SELECT DISTINCT source FROM `{dataset}.scans_raw` WHERE recorded_at >= @since AND {sent}
    ORDER BY source LIMIT 200
    """
    return [row["source"] for row in recent.query(sql, since=recent.back(WINDOWS[window]))]


def scan(scan_id: str) -> Row | None:
    """The accepted scan of this id, of its latest label. Raises BigQueryError."""
    sql = """
    SELECT scan_id, label, source, object_name, accepted_at FROM `{dataset}.scans` WHERE scan_id = @scan_id
    ORDER BY accepted_at DESC LIMIT 1
    """
    return next(iter(query(sql, scan_id=scan_id)), None)


@st.cache_data(ttl=10, max_entries=500, show_spinner=False)
def trail(scan_id: str, since: datetime = recent.EVER) -> list[Row]:
    """What became of a file, in order: `at`, `step`, `detail`. Raises BigQueryError.

    `since` is the day before it was uploaded: what was recorded earlier is of another upload, and need not be read.
    """
    sql = """
    SELECT step.* FROM {recent scans}, UNNEST([
      STRUCT(uploaded_at AS at, 'Uploaded' AS step, CONCAT(label, ' folder, from ', source) AS detail),
      STRUCT(accepted_at, 'Accepted',
        CONCAT(format, ', ', width, ' × ', height, ' pixels', IFNULL(CONCAT('; ', note), '')))]) AS step
    WHERE scan_id = @scan_id
    UNION ALL SELECT step.* FROM {recent rejections}, UNNEST([
      STRUCT(uploaded_at AS at, 'Uploaded' AS step, CONCAT(label, ' folder, from ', source) AS detail),
      STRUCT(rejected_at, 'Rejected', CONCAT(reason, '; generation ', generation, ' in the uploads bucket'))]) AS step
    WHERE file_id = @scan_id
    UNION ALL SELECT predicted_at, 'Scored', CONCAT(prediction, ' by model ', model_version)
    FROM {recent predictions} WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Features written', CONCAT('version ', feature_version)
    FROM {recent features} WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Prepared for training', backbone
    FROM {recent cnn_features} WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Not prepared', reason
    FROM {recent preprocessing_errors} WHERE scan_id = @scan_id
    UNION ALL SELECT exhausted_at, 'Out of retries', CONCAT(subscription, ', after ', attempts, ' attempts')
    FROM {recent dead_letters} WHERE scan_id = @scan_id
    UNION ALL SELECT given_at,
      IF(agrees, 'A reader agreed', IF(reading = 'Cannot tell', 'A reader could not tell', 'A reader disagreed')),
      reading
    FROM {recent feedback} WHERE scan_id = @scan_id
    ORDER BY at, step DESC LIMIT 100
    """
    return recent.query(sql, since=since, scan_id=scan_id)
