"""Verdicts of check_drift: whether the newest scans still look like those that the release knows."""

from datetime import timedelta

import streamlit as st

from shared.gcp import recent
from shared.gcp.bigquery import Row

WINDOW = timedelta(days=30)


@st.cache_data(ttl=60, max_entries=10, show_spinner=False)
def checks() -> list[Row]:
    """Return the drift checks of the last 30 days, newest first, at most 300; `tests` is JSON. Raises BigQueryError."""
    sql = """
    SELECT checked_at, model_version, change, cause, p_value, level, scans, expected_accuracy, tests,
      since, foreign_scans
    FROM {recent drift_checks} ORDER BY checked_at DESC LIMIT 300
    """
    return recent.query(sql, since=recent.back(WINDOW))
