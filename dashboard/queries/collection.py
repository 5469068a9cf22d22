"""What has been collected, and whether all of it arrived."""

import streamlit as st

from shared.gcp.bigquery import Row, query


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
