"""What the pages ask BigQuery: through the keyed views only, values as parameters, every answer bounded."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from dashboard.api import Reading
from shared.gcp import bigquery
from shared.gcp.bigquery import query

Row = dict[str, Any]

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

PREDICTIONS = ("Cancer", "Non-Cancer", "Not a brain MRI")
LABELS = ("Cancer", "Non-Cancer", "Unlabelled")

FILTERS = {
    "label": "label = @label",
    "source": "source = @source",
    "prediction": "prediction = @prediction",
    "search": "STARTS_WITH(scan_id, @search)",
}
"""Conditions that carry a value."""

STATUSES = {
    "Waiting for a score": "reason IS NULL AND NOT scored",
    "Scored": "scored",
    "Features written": "described",
    "Prepared": "prepared",
    "Rejected": "reason IS NOT NULL",
}
"""Conditions on how far a file has come."""

# Narrow on purpose: columns that neither sort nor filter are read by `trail`, for one scan at a time.
_CORRIDOR = """
WITH scored AS (
  SELECT scan_id, prediction, probability, threshold, predicted_at
  FROM `{dataset}.predictions`
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id ORDER BY predicted_at DESC) = 1
), described AS (
  SELECT DISTINCT scan_id, TRUE AS described FROM `{dataset}.features`
), prepared AS (
  SELECT DISTINCT scan_id, TRUE AS prepared FROM `{dataset}.cnn_features`
), arrived AS (
  SELECT scan_id, label, source, uploaded_at, CAST(NULL AS STRING) AS reason FROM `{dataset}.scans`
  UNION ALL SELECT file_id, label, source, uploaded_at, reason FROM `{dataset}.rejections`
), corridor AS (
  SELECT scan_id, label, source, uploaded_at, reason, prediction, probability, threshold,
    predicted_at IS NOT NULL AS scored, IFNULL(described, FALSE) AS described, IFNULL(prepared, FALSE) AS prepared
  FROM arrived LEFT JOIN scored USING (scan_id) LEFT JOIN described USING (scan_id) LEFT JOIN prepared USING (scan_id)
)
"""


@st.cache_data(ttl=REFRESH_S, max_entries=200, show_spinner=False)
def worklist(sort: str, status: str | None, filters: Mapping[str, str], page: int) -> list[Row]:
    """One page (from 1) of files that came through the bucket; `total` counts all that match. Raises BigQueryError.

    `filters` gives values for some of FILTERS, `status` is one of STATUSES.
    """
    conditions = [FILTERS[name] for name in filters] + ([STATUSES[status]] if status else [])
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = f"LIMIT {PAGE_ROWS} OFFSET {(page - 1) * PAGE_ROWS:d}"
    # Only the constants above go into the text.
    sql = f"{_CORRIDOR} SELECT *, COUNT(*) OVER () AS total FROM corridor {where} ORDER BY {SORTS[sort]} {rows}"  # noqa: S608
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
      STRUCT(accepted_at, 'Accepted', CONCAT(format, ', ', width, ' × ', height, ' pixels'))]) AS step
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
    UNION ALL SELECT given_at, IF(agrees, 'A reader agreed', 'A reader disagreed'), reading
    FROM `{dataset}.feedback` WHERE scan_id = @scan_id
    ORDER BY at, step DESC LIMIT 100
    """
    return query(sql, scan_id=scan_id)


def give_feedback(reader: str, reading: Reading, seen: str, reason: str) -> None:
    """Store what a reader sees in a scan; the same reader's next opinion on it replaces this one.

    Raises BigQueryError.
    """
    feedback_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{reader}/{reading.scan_id}/{reading.model_version}"))
    row = {
        "feedback_id": feedback_id,
        "scan_id": reading.scan_id,
        "model_version": reading.model_version,
        "prediction": reading.prediction,
        "probability": reading.probability,
        "agrees": seen == reading.prediction,
        "reading": seen,
        "reason": reason or None,
        "given_at": datetime.now(UTC).isoformat(),
    }
    bigquery.append("feedback", row, key=str(uuid.uuid4()))


@st.cache_data(ttl=60, max_entries=10, show_spinner=False)
def composition() -> list[Row]:
    """Scans by label, source and format, at most 500 groups: `label`, `source`, `format`, `scans`.

    Raises BigQueryError.
    """
    sql = """
    SELECT label, source, format, COUNT(*) AS scans FROM `{dataset}.scans`
    GROUP BY label, source, format ORDER BY scans DESC LIMIT 500
    """
    return query(sql)


@st.cache_data(ttl=60, max_entries=10, show_spinner=False)
def sizes() -> list[Row]:
    """The 300 most frequent sizes in pixels: `width`, `height`, `label`, `scans`. Raises BigQueryError."""
    sql = """
    SELECT width, height, label, COUNT(*) AS scans FROM `{dataset}.scans`
    GROUP BY width, height, label ORDER BY scans DESC LIMIT 300
    """
    return query(sql)


@st.cache_data(ttl=60, max_entries=10, show_spinner=False)
def duplicates() -> Row:
    """`same_pixels`: scans whose stored bytes another scan has; `conflicts`: scans in two folders.

    Raises BigQueryError.
    """
    sql = """
    SELECT
      (SELECT IFNULL(SUM(n - 1), 0) FROM (
        SELECT COUNT(DISTINCT scan_id) AS n FROM `{dataset}.scans` GROUP BY content_sha256)) AS same_pixels,
      (SELECT COUNT(*) FROM (
        SELECT scan_id FROM `{dataset}.scans` GROUP BY scan_id HAVING COUNT(DISTINCT label) > 1)) AS conflicts
    """
    return query(sql)[0]


@st.cache_data(ttl=300, max_entries=10, show_spinner=False)
def embeddings(limit: int = 1000) -> list[Row]:
    """Newest scans with the released model's `embedding`, and `scan_id`, `label`, `source`. Raises BigQueryError."""
    sql = """
    SELECT scan_id, feature_version, label, source, embedding FROM `{dataset}.features`
    WHERE feature_version = (
      SELECT feature_version FROM `{dataset}.features` ORDER BY recorded_at DESC LIMIT 1)
    ORDER BY recorded_at DESC LIMIT @limit
    """
    return query(sql, limit=limit)


@st.cache_data(ttl=30, max_entries=10, show_spinner=False)
def ingestion_checks() -> list[Row]:
    """The last 60 lines of ingestion checks, newest first. Raises BigQueryError."""
    return query("SELECT * FROM `{dataset}.ingestion_checks` ORDER BY checked_at DESC, label LIMIT 60")


@st.cache_data(ttl=10, max_entries=10, show_spinner=False)
def disagreements() -> list[Row]:
    """The last 1,000 answers that a reader corrected: what the next training should look at. Raises BigQueryError."""
    sql = """
    SELECT given_at, scan_id, prediction, probability, reading, reason, model_version FROM `{dataset}.feedback`
    WHERE NOT agrees ORDER BY given_at DESC LIMIT 1000
    """
    return query(sql)


@st.cache_data(ttl=30, max_entries=10, show_spinner=False)
def versions() -> list[Row]:
    """Models that have scored scans, newest first, and what readers said of their answers. Raises BigQueryError."""
    sql = """
    WITH heard AS (
      SELECT model_version, COUNT(*) AS opinions, COUNTIF(agrees) AS agreed
      FROM `{dataset}.feedback` GROUP BY model_version
    )
    SELECT model_version, MIN(predicted_at) AS first_at, MAX(predicted_at) AS last_at, COUNT(*) AS scans,
      AVG(threshold) AS threshold, COUNTIF(prediction = 'Cancer') / COUNT(*) AS called_cancer,
      COUNTIF(prediction = 'Not a brain MRI') / COUNT(*) AS refused, ANY_VALUE(opinions) AS opinions,
      ANY_VALUE(agreed) AS agreed
    FROM `{dataset}.predictions` LEFT JOIN heard USING (model_version)
    GROUP BY model_version ORDER BY last_at DESC LIMIT 100
    """
    return query(sql)


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def compared(one: str, other: str) -> list[Row]:
    """Scans that two versions have both scored, by their answers: `one`, `other`, `scans`, `moved`.

    Raises BigQueryError.
    """
    sql = """
    SELECT a.prediction AS one, b.prediction AS other, COUNT(*) AS scans,
      AVG(ABS(a.probability - b.probability)) AS moved
    FROM `{dataset}.predictions` AS a JOIN `{dataset}.predictions` AS b USING (scan_id)
    WHERE a.model_version = @one AND b.model_version = @other
    GROUP BY 1, 2 ORDER BY 1, 2
    """
    return query(sql, one=one, other=other)


WINDOWS = {
    "Last hour": (timedelta(hours=1), "MINUTE"),
    "Last day": (timedelta(days=1), "HOUR"),
    "Last week": (timedelta(days=7), "HOUR"),
    "Last 30 days": (timedelta(days=30), "DAY"),
}
"""What Operations looks back on, and the steps of its charts."""


def _back_to(window: str, sql: str) -> list[Row]:
    """Rows of a query on the time since `@since`, in steps of `{unit}`."""
    span, unit = WINDOWS[window]
    return query(sql.replace("{unit}", unit), since=datetime.now(UTC) - span)


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def throughput(window: str) -> list[Row]:
    """Files by time and what became of them: `at`, `outcome`, `files`. Raises BigQueryError."""
    sql = """
    SELECT TIMESTAMP_TRUNC(accepted_at, {unit}) AS at, 'Accepted' AS outcome, COUNT(*) AS files
    FROM `{dataset}.scans` WHERE accepted_at >= @since GROUP BY 1
    UNION ALL SELECT TIMESTAMP_TRUNC(predicted_at, {unit}), 'Scored', COUNT(*)
    FROM `{dataset}.predictions` WHERE predicted_at >= @since GROUP BY 1
    UNION ALL SELECT TIMESTAMP_TRUNC(rejected_at, {unit}), 'Rejected', COUNT(*)
    FROM `{dataset}.rejections` WHERE rejected_at >= @since GROUP BY 1
    ORDER BY 1
    """
    return _back_to(window, sql)


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def latency(window: str) -> list[Row]:
    """Seconds from upload to answer by time: `at`, `p50`, `p95`, `p99`, `scans`. Raises BigQueryError."""
    sql = """
    SELECT at, scans, quantiles[OFFSET(50)] AS p50, quantiles[OFFSET(95)] AS p95, quantiles[OFFSET(99)] AS p99 FROM (
      SELECT TIMESTAMP_TRUNC(predicted_at, {unit}) AS at, COUNT(*) AS scans,
        APPROX_QUANTILES(TIMESTAMP_DIFF(predicted_at, uploaded_at, MILLISECOND) / 1000, 100) AS quantiles
      FROM `{dataset}.predictions` WHERE predicted_at >= @since GROUP BY 1)
    ORDER BY at
    """
    return _back_to(window, sql)


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def rejections(window: str) -> list[Row]:
    """Rejected files by `reason` and `source`. Raises BigQueryError."""
    sql = """
    SELECT reason, source, COUNT(*) AS files FROM `{dataset}.rejections` WHERE rejected_at >= @since
    GROUP BY reason, source ORDER BY files DESC LIMIT 200
    """
    return _back_to(window, sql)


@st.cache_data(ttl=10, max_entries=20, show_spinner=False)
def waiting() -> list[Row]:
    """Accepted scans of the last week that a step has not done: `step`, `scans`, `stuck`, `oldest`.

    Raises BigQueryError. Stuck is what has waited over 15 minutes: the retries of every subscription are over by then.
    """
    sql = """
    SELECT 'score_scan' AS step, COUNT(*) AS scans, COUNTIF(accepted_at < @late) AS stuck, MIN(accepted_at) AS oldest
    FROM `{dataset}.scans`
    WHERE accepted_at >= @since AND scan_id NOT IN (SELECT scan_id FROM `{dataset}.predictions`)
    UNION ALL SELECT 'write_features', COUNT(*), COUNTIF(accepted_at < @late), MIN(accepted_at)
    FROM `{dataset}.scans`
    WHERE accepted_at >= @since AND scan_id NOT IN (SELECT scan_id FROM `{dataset}.features`)
    """
    now = datetime.now(UTC)
    return query(sql, late=now - timedelta(minutes=15), since=now - timedelta(days=7))


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def inputs(window: str) -> list[Row]:
    """Pixel statistics by time, averaged over scans: `at`, `mean`, `deviation`, `skewness`, `kurtosis`, `scans`.

    Raises BigQueryError.
    """
    sql = """
    SELECT TIMESTAMP_TRUNC(recorded_at, {unit}) AS at, COUNT(*) AS scans, AVG(mean) AS mean,
      AVG(deviation) AS deviation, AVG(skewness) AS skewness, AVG(kurtosis) AS kurtosis
    FROM `{dataset}.features` WHERE recorded_at >= @since GROUP BY 1 ORDER BY 1
    """
    return _back_to(window, sql)


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def probabilities(window: str) -> list[Row]:
    """Scans by tenth of the calibrated probability: `tenth` (0 to 9), `scans`. Raises BigQueryError."""
    sql = """
    SELECT LEAST(CAST(FLOOR(probability * 10) AS INT64), 9) AS tenth, COUNT(*) AS scans FROM `{dataset}.predictions`
    WHERE predicted_at >= @since GROUP BY 1 ORDER BY 1
    """
    return _back_to(window, sql)


def answers() -> None:
    """Ask BigQuery for nothing. Raises BigQueryError where it does not answer."""
    query("SELECT 1")
