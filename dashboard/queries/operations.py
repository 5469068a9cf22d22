"""Whether the pipeline moves, and whether scans and predictions look as they did in training."""

from datetime import UTC, datetime, timedelta

import streamlit as st

from shared.gcp import recent
from shared.gcp.bigquery import Row, query

WINDOWS = {
    "Last hour": (timedelta(hours=1), "MINUTE"),
    "Last day": (timedelta(days=1), "HOUR"),
    "Last week": (timedelta(days=7), "HOUR"),
    "Last 30 days": (timedelta(days=30), "DAY"),
}
"""What Operations looks back on, and the steps of its charts."""


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def throughput(window: str) -> list[Row]:
    """Files by time and what became of them: `at`, `outcome`, `files`. Raises BigQueryError."""
    sql = """
    SELECT TIMESTAMP_TRUNC(accepted_at, {unit}) AS at, 'Accepted' AS outcome, COUNT(*) AS files
    FROM {recent scans} WHERE accepted_at >= @since GROUP BY 1
    UNION ALL SELECT TIMESTAMP_TRUNC(predicted_at, {unit}), 'Scored', COUNT(*)
    FROM {recent predictions} WHERE predicted_at >= @since GROUP BY 1
    UNION ALL SELECT TIMESTAMP_TRUNC(rejected_at, {unit}), 'Rejected', COUNT(*)
    FROM {recent rejections} WHERE rejected_at >= @since GROUP BY 1
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
      FROM {recent predictions} WHERE predicted_at >= @since GROUP BY 1)
    ORDER BY at
    """
    return _back_to(window, sql)


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def rejections(window: str) -> list[Row]:
    """Rejected files by `reason` and `source`. Raises BigQueryError."""
    sql = """
    SELECT reason, source, COUNT(*) AS files FROM {recent rejections} WHERE rejected_at >= @since
    GROUP BY reason, source ORDER BY files DESC LIMIT 200
    """
    return _back_to(window, sql)


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def waiting() -> list[Row]:
    """Accepted scans of the last week that a step has not done: `step`, `scans`, `stuck`, `oldest`.

    Raises BigQueryError. Stuck is what has waited over 15 minutes: the retries of every subscription are over by then.
    """
    sql = """
    SELECT 'score_scan' AS step, COUNT(*) AS scans, COUNTIF(accepted_at < @late) AS stuck, MIN(accepted_at) AS oldest
    FROM {recent scans}
    WHERE accepted_at >= @since AND scan_id NOT IN (SELECT scan_id FROM {recent predictions})
    UNION ALL SELECT 'write_features', COUNT(*), COUNTIF(accepted_at < @late), MIN(accepted_at)
    FROM {recent scans}
    WHERE accepted_at >= @since AND scan_id NOT IN (SELECT scan_id FROM {recent features})
    """
    now = datetime.now(UTC)
    return recent.query(sql, since=now - timedelta(days=7), late=now - timedelta(minutes=15))


@st.cache_data(ttl=30, max_entries=20, show_spinner=False)
def dead_letters(window: str) -> list[Row]:
    """Messages that exhausted their retries, newest first, at most 200; `lost` counts all whose work is not done.

    A message `is_done` if a replay has since done what it asked for; None if that cannot be told, since an upload
    that was never validated has no scan id, nor has a series. Raises BigQueryError.
    """
    sql = """
    WITH done AS (
      SELECT 'score-scan-on-scan-accepted' AS subscription, scan_id FROM {recent predictions}
      UNION ALL SELECT 'write-features-on-scan-scored', scan_id FROM {recent features}
      UNION ALL SELECT 'record-scan-on-scan-accepted', scan_id FROM {recent scans}
      UNION ALL SELECT 'record-scan-on-scan-rejected', file_id FROM {recent rejections}
      UNION ALL SELECT 'record-scan-on-scan-scored', scan_id FROM {recent slice_scores}
      UNION ALL SELECT 'record-scan-on-scan-scored', scan_id FROM {recent scans} WHERE series_id IS NULL
    ), letters AS (
      SELECT exhausted_at, subscription, attempts, scan_id, generation, IF(scan_id IS NULL, NULL, EXISTS (
        SELECT 1 FROM done WHERE done.subscription = letter.subscription AND done.scan_id = letter.scan_id)) AS is_done
      FROM {recent dead_letters} AS letter WHERE exhausted_at >= @oldest
    )
    SELECT *, COUNT(*) OVER () AS total, COUNTIF(IFNULL(NOT is_done, TRUE)) OVER () AS lost
    FROM letters ORDER BY exhausted_at DESC LIMIT 200
    """
    oldest = datetime.now(UTC) - WINDOWS[window][0]
    # A scan may have been recorded long before the last retry of another step.
    return recent.query(sql, since=oldest - timedelta(days=1), oldest=oldest)


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def inputs(window: str) -> list[Row]:
    """Pixel statistics by time, averaged over scans: `at`, `mean`, `std`, `skewness`, `kurtosis`, `scans`.

    Raises BigQueryError.
    """
    sql = """
    SELECT TIMESTAMP_TRUNC(recorded_at, {unit}) AS at, COUNT(*) AS scans, AVG(mean) AS mean,
      AVG(std) AS std, AVG(skewness) AS skewness, AVG(kurtosis) AS kurtosis
    FROM {recent features} WHERE recorded_at >= @since GROUP BY 1 ORDER BY 1
    """
    return _back_to(window, sql)


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def probabilities(window: str) -> list[Row]:
    """Scans by tenth of the calibrated probability: `tenth` (0 to 9), `scans`. Raises BigQueryError."""
    sql = """
    SELECT LEAST(CAST(FLOOR(probability * 10) AS INT64), 9) AS tenth, COUNT(*) AS scans FROM {recent predictions}
    WHERE predicted_at >= @since GROUP BY 1 ORDER BY 1
    """
    return _back_to(window, sql)


def ping() -> None:
    """Ask BigQuery for nothing. Raises BigQueryError if it does not answer."""
    query("SELECT 1")


def _back_to(window: str, sql: str) -> list[Row]:
    """Rows of a query on the time since `@since`, in steps of `{unit}`."""
    span, unit = WINDOWS[window]
    return recent.query(sql.replace("{unit}", unit), since=datetime.now(UTC) - span)
