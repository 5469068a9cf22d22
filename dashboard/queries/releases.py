"""Which models were released or kept back, which have scored scans, and how they differ."""

from datetime import timedelta

import streamlit as st

from shared.gcp import recent
from shared.gcp.bigquery import Row, query

WINDOW = timedelta(days=90)
"""What versions are compared on."""


@st.cache_data(ttl=300, max_entries=10, show_spinner=False)
def versions() -> list[Row]:
    """Models that have scored scans lately, newest first, and what readers said of them. Raises BigQueryError."""
    sql = """
    WITH heard AS (
      SELECT model_version, COUNTIF(reading != 'Cannot tell') AS feedback, COUNTIF(agrees) AS agreed
      FROM `{dataset}.feedback` GROUP BY model_version
    )
    SELECT model_version, MIN(predicted_at) AS first_at, MAX(predicted_at) AS last_at, COUNT(*) AS scans,
      AVG(threshold) AS threshold, COUNTIF(prediction = 'Cancer') / COUNT(*) AS called_cancer,
      COUNTIF(prediction = 'Not a brain MRI') / COUNT(*) AS refused, ANY_VALUE(feedback) AS feedback,
      ANY_VALUE(agreed) AS agreed
    FROM {recent predictions} LEFT JOIN heard USING (model_version)
    GROUP BY model_version ORDER BY last_at DESC LIMIT 100
    """
    return recent.query(sql, since=recent.back(WINDOW))


@st.cache_data(ttl=600, max_entries=20, show_spinner=False)
def compared(one: str, other: str) -> list[Row]:
    """Scans that two versions have both scored, one perhaps in shadow: `one`, `other`, `scans`, `moved`.

    Raises BigQueryError.
    """
    sql = """
    WITH said AS (
      SELECT scan_id, model_version, prediction, probability FROM `{dataset}.predictions_raw`
      WHERE recorded_at >= @since AND {sent}
      QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id, model_version ORDER BY predicted_at DESC, recorded_at DESC) = 1
    )
    SELECT a.prediction AS one, b.prediction AS other, COUNT(*) AS scans,
      AVG(ABS(a.probability - b.probability)) AS moved
    FROM said AS a JOIN said AS b USING (scan_id)
    WHERE a.model_version = @one AND b.model_version = @other
    GROUP BY 1, 2 ORDER BY 1, 2
    """
    return recent.query(sql, since=recent.back(WINDOW), one=one, other=other)


@st.cache_data(ttl=30, max_entries=10, show_spinner=False)
def decisions() -> list[Row]:
    """The last 100 decisions on releases, newest first; `figures` is JSON. Raises BigQueryError."""
    sql = """
    SELECT decided_at, version, outcome, `before`, reasons, figures FROM `{dataset}.release_decisions`
    ORDER BY decided_at DESC LIMIT 100
    """
    return query(sql)
