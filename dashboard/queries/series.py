"""Series and the studies that they belong to: many slices, one answer."""

from datetime import timedelta

import streamlit as st

from dashboard.queries import recent
from shared.gcp.bigquery import Row, query

PAGE_ROWS = 50
REFRESH_S = 30
"""A series is answered when it has been quiet for half a minute: nobody sees a difference below this."""
WINDOW = timedelta(days=30)
"""What the list of series looks back on."""


@st.cache_data(ttl=REFRESH_S, max_entries=100, show_spinner=False)
def answered(page: int, study_id: str = "") -> list[Row]:
    """Return one page (from 1) of series by their latest answer, newest first; `total` counts all.

    Of one study if its pseudonym is given, however old it is. Raises BigQueryError.
    """
    sql = """
    WITH latest AS (
      SELECT * FROM {recent series}
      QUALIFY ROW_NUMBER() OVER (PARTITION BY series_id ORDER BY answered_at DESC, recorded_at DESC) = 1
    )
    SELECT *, COUNT(*) OVER () AS total FROM latest WHERE @study_id IN ('', study_id)
    ORDER BY answered_at DESC, series_id LIMIT @rows OFFSET @skipped
    """
    since = recent.back(None if study_id else WINDOW)
    return recent.query(sql, since=since, study_id=study_id, rows=PAGE_ROWS, skipped=(page - 1) * PAGE_ROWS)


@st.cache_data(ttl=60, max_entries=100, show_spinner=False)
def slices(series_id: str) -> list[Row]:
    """Return the slices of a series along its normal, at most 2,000: `scan_id`, `object_name`, `source`.

    Raises BigQueryError.
    """
    sql = """
    SELECT scan_id, object_name, source FROM `{dataset}.series_slices` WHERE series_id = @series_id
    ORDER BY slice_position_mm, scan_id LIMIT 2000
    """
    return query(sql, series_id=series_id)
