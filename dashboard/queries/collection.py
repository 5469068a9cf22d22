"""What has been collected, and whether all of it arrived."""

from datetime import timedelta

import streamlit as st

from shared.gcp import recent
from shared.gcp.bigquery import Row, query

_FEWEST_EMBEDDINGS = 100
"""Below this a projection shows little, and so few are cheap to look for."""


@st.cache_data(ttl=600, max_entries=10, show_spinner=False)
def composition() -> list[Row]:
    """Scans by label, source and format, at most 500 groups: `label`, `source`, `format`, `scans`.

    Raises BigQueryError.
    """
    sql = """
    SELECT label, source, format, COUNT(*) AS scans FROM `{dataset}.scans`
    GROUP BY label, source, format ORDER BY scans DESC LIMIT 500
    """
    return query(sql)


@st.cache_data(ttl=600, max_entries=10, show_spinner=False)
def sizes() -> list[Row]:
    """The 300 most frequent sizes in pixels: `width`, `height`, `label`, `scans`. Raises BigQueryError."""
    sql = """
    SELECT width, height, label, COUNT(*) AS scans FROM `{dataset}.scans`
    GROUP BY width, height, label ORDER BY scans DESC LIMIT 300
    """
    return query(sql)


@st.cache_data(ttl=600, max_entries=10, show_spinner=False)
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


@st.cache_data(ttl=600, max_entries=10, show_spinner=False)
def embeddings(limit: int = 1000) -> list[Row]:
    """Newest scans with the newest version's `embedding`, and `scan_id`, `label`, `source`. Raises BigQueryError.

    An embedding has 5 KB: the last day is read if it holds enough scans, and more only if there are few.
    """
    sql = """
    WITH written AS (SELECT * FROM {recent features})
    SELECT scan_id, feature_version, label, source, embedding FROM written
    WHERE feature_version = (SELECT feature_version FROM written ORDER BY recorded_at DESC LIMIT 1)
    ORDER BY recorded_at DESC LIMIT @limit
    """
    rows: list[Row] = []
    for days in (1, 30, None):
        rows = recent.query(sql, since=recent.back(timedelta(days) if days else None), limit=limit)
        if len(rows) >= _FEWEST_EMBEDDINGS:
            break
    return rows


@st.cache_data(ttl=30, max_entries=10, show_spinner=False)
def ingestion_checks() -> list[Row]:
    """The last 60 lines of ingestion checks, newest first. Raises BigQueryError."""
    return query("SELECT * FROM `{dataset}.ingestion_checks` ORDER BY checked_at DESC, label LIMIT 60")
