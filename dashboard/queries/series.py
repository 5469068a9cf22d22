"""Series and the studies that they belong to: many slices, one answer."""

from datetime import timedelta

import streamlit as st

from shared import config
from shared.gcp import recent
from shared.gcp.bigquery import Row, query

PAGE_ROWS = 50
REFRESH_S = config.live_refresh_seconds()
"""A series is answered when it has been quiet for half a minute: nobody sees a difference below this."""
WINDOW = timedelta(days=30)
"""What the list of series looks back on."""

_OF_A_STUDY = """
WHERE study_id = @study OR study_id IN (SELECT study_id FROM `{dataset}.scans_raw` WHERE accession_id = @study)
"""
"""Reads every scan's row, so only where somebody asks for one study."""


@st.cache_data(ttl=REFRESH_S, max_entries=100, show_spinner=False)
def answered(page: int, study: str = "") -> list[Row]:
    """Return one page (from 1) of series by their latest answer, newest first; `total` counts all.

    Of one study, however old it is, if the pseudonym of its UID or of its accession number is given. Raises
    BigQueryError.
    """
    sql = """
    WITH latest AS (
      SELECT * FROM {recent series}
      QUALIFY ROW_NUMBER() OVER (PARTITION BY series_id ORDER BY answered_at DESC, recorded_at DESC) = 1
    )
    SELECT *, COUNT(*) OVER () AS total FROM latest {wanted}
    ORDER BY answered_at DESC, series_id LIMIT @rows OFFSET @skipped
    """
    shown = {"rows": PAGE_ROWS, "skipped": (page - 1) * PAGE_ROWS}
    if not study:
        return recent.query(sql.replace("{wanted}", ""), since=recent.back(WINDOW), **shown)
    return recent.query(sql.replace("{wanted}", _OF_A_STUDY), since=recent.back(None), study=study, **shown)


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
