"""The scans that came through the bucket, and how far each has come.

Like all queries of the dashboard: through the keyed views only, values as parameters, every answer bounded.
"""

from collections.abc import Mapping

import streamlit as st

from shared.gcp.bigquery import Row, query

PAGE_ROWS = 50
REFRESH_S = 4
"""A worklist is at most this old: long enough for a query to end before the next begins."""

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
    "Features written": "scan_id IN (SELECT scan_id FROM `{dataset}.features`)",
    "Prepared": "scan_id IN (SELECT scan_id FROM `{dataset}.cnn_features`)",
    "Rejected": "reason IS NOT NULL",
}
"""Conditions on how far a file has come."""

# Features are looked up for the fifty rows of a page: to join them to every scan took a quarter of the query's time.
_PAGE = """
WITH scored AS (
  SELECT scan_id, prediction, probability, threshold, predicted_at
  FROM `{dataset}.predictions`
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id ORDER BY predicted_at DESC) = 1
), heard AS (
  SELECT scan_id, COUNTIF(agrees) AS agreed, COUNTIF(NOT agrees) AS disagreed FROM `{dataset}.feedback` GROUP BY scan_id
), arrived AS (
  SELECT scan_id, label, source, uploaded_at, CAST(NULL AS STRING) AS reason FROM `{dataset}.scans`
  UNION ALL SELECT file_id, label, source, uploaded_at, reason FROM `{dataset}.rejections`
), page AS (
  SELECT *, COUNT(*) OVER () AS total FROM arrived LEFT JOIN scored USING (scan_id)
  {conditions} ORDER BY {order} LIMIT {limit} OFFSET {offset}
)
SELECT *, predicted_at IS NOT NULL AS is_scored,
  EXISTS (SELECT 1 FROM `{dataset}.features` AS written WHERE written.scan_id = page.scan_id) AS has_features,
  EXISTS (SELECT 1 FROM `{dataset}.cnn_features` AS written WHERE written.scan_id = page.scan_id) AS is_prepared
FROM page LEFT JOIN heard USING (scan_id) ORDER BY {order}
"""


@st.cache_data(ttl=REFRESH_S, max_entries=200, show_spinner=False)
def worklist(sort: str, status: str | None, filters: Mapping[str, str], page: int) -> list[Row]:
    """One page (from 1) of files that came through the bucket; `total` counts all that match. Raises BigQueryError.

    `filters` gives values for some of FILTERS, `status` is one of STATUSES.
    """
    conditions = [FILTERS[name] for name in filters] + ([STATUSES[status]] if status else [])
    parts = {
        "conditions": f"WHERE {' AND '.join(conditions)}" if conditions else "",
        "order": SORTS[sort],
        "limit": str(PAGE_ROWS),
        "offset": str((page - 1) * PAGE_ROWS),
    }
    sql = _PAGE
    for name, part in parts.items():  # only constants of this module and whole numbers go into the text
        sql = sql.replace(f"{{{name}}}", part)
    return query(sql, **filters)


@st.cache_data(ttl=60, show_spinner=False)
def sources() -> list[str]:
    """Every source that has sent a scan, at most 200. Raises BigQueryError."""
    return [row["source"] for row in query("SELECT DISTINCT source FROM `{dataset}.scans` ORDER BY source LIMIT 200")]


def scan(scan_id: str) -> Row | None:
    """The accepted scan of this id, of its latest label. Raises BigQueryError."""
    sql = "SELECT * FROM `{dataset}.scans` WHERE scan_id = @scan_id ORDER BY accepted_at DESC LIMIT 1"
    return next(iter(query(sql, scan_id=scan_id)), None)


@st.cache_data(ttl=10, max_entries=500, show_spinner=False)
def trail(scan_id: str) -> list[Row]:
    """What became of a file, in order: `at`, `step`, `detail`. Raises BigQueryError."""
    sql = """
    SELECT step.* FROM `{dataset}.scans`, UNNEST([
      STRUCT(uploaded_at AS at, 'Uploaded' AS step, CONCAT(label, ' folder, from ', source) AS detail),
      STRUCT(accepted_at, 'Accepted',
        CONCAT(format, ', ', width, ' × ', height, ' pixels', IFNULL(CONCAT('; ', note), '')))]) AS step
    WHERE scan_id = @scan_id
    UNION ALL SELECT step.* FROM `{dataset}.rejections`, UNNEST([
      STRUCT(uploaded_at AS at, 'Uploaded' AS step, CONCAT(label, ' folder, from ', source) AS detail),
      STRUCT(rejected_at, 'Rejected', CONCAT(reason, '; generation ', generation, ' in the uploads bucket'))]) AS step
    WHERE file_id = @scan_id
    UNION ALL SELECT predicted_at, 'Scored', CONCAT(prediction, ' by model ', model_version)
    FROM `{dataset}.predictions` WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Features written', CONCAT('version ', feature_version)
    FROM `{dataset}.features` WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Prepared for training', backbone
    FROM `{dataset}.cnn_features` WHERE scan_id = @scan_id
    UNION ALL SELECT recorded_at, 'Not prepared', reason
    FROM `{dataset}.preprocessing_errors` WHERE scan_id = @scan_id
    UNION ALL SELECT exhausted_at, 'Out of retries', CONCAT(subscription, ', after ', attempts, ' attempts')
    FROM `{dataset}.dead_letters` WHERE scan_id = @scan_id
    UNION ALL SELECT given_at, IF(agrees, 'A reader agreed', 'A reader disagreed'), reading
    FROM `{dataset}.feedback` WHERE scan_id = @scan_id
    ORDER BY at, step DESC LIMIT 100
    """
    return query(sql, scan_id=scan_id)
