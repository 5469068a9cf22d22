"""Worklist: what arrived through the bucket, newest first and live, with its way along the corridor."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import LABELS, PREDICTIONS
from dashboard.queries import scans
from shared.gcp.bigquery import BigQueryError, Row

STEPS_A_LINE = 5
MAX_PAGES = 1_000_000
STEPS = ("Uploaded", "Accepted", "Scored", "Features", "Prepared", "Rejected")
STEP_COLOURS = ("gray", "blue", "green", "violet", "orange", "red")


def main() -> None:
    """The page."""
    asked = _asked()
    live = st.toggle("Live", True, key="live", help=f"Look for new scans every {scans.REFRESH_S} seconds")
    st.fragment(_board, run_every=scans.REFRESH_S if live else None)(*asked)


def _asked() -> tuple[str, str | None, dict[str, str]]:
    """Order, status and filters as chosen; they travel in the address, so that a worklist can be sent as a link."""
    search, sort, status, prediction, label, source = st.columns([3, 3, 3, 2, 2, 2])
    linked: dict[str, Any] = {"bind": "query-params", "on_change": _first_page}
    optional = linked | {"index": None, "placeholder": "Any"}
    beginning = search.text_input("Scan id begins with", key="search", max_chars=70, **linked)
    order = sort.selectbox("Order", list(scans.SORTS), key="sort", **linked)
    reached = status.selectbox("Status", list(scans.STATUSES), key="status", **optional)
    chosen = {
        "search": beginning.strip().lower(),
        "prediction": prediction.selectbox("Prediction", PREDICTIONS, key="prediction", **optional),
        "label": label.selectbox("Folder", LABELS, key="label", **optional),
        "source": source.selectbox("Source", _sources(), key="source", **optional),
    }
    return order, reached, {name: value for name, value in chosen.items() if value}


def _sources() -> list[str]:
    try:
        return scans.sources()
    except BigQueryError:
        return []  # the table beneath says that BigQuery cannot be reached


def _board(sort: str, status: str | None, filters: dict[str, str]) -> None:
    """The part that runs again by itself."""
    _table(sort, status, filters)
    with st.container(border=True):
        _detail(st.session_state.get("worklist scan"))


def _table(sort: str, status: str | None, filters: dict[str, str]) -> None:
    page = _page()
    try:
        rows = scans.worklist(sort, status, filters, page)
    except BigQueryError:
        st.error("The list of scans cannot be reached. Your filters are kept.", icon=":material/cloud_off:")
        st.button("Try again", icon=":material/refresh:")
        return
    total = rows[0]["total"] if rows else 0
    if not rows:
        st.info(
            "No scan matches."
            if filters or status or page > 1
            else "No scan has arrived yet. Drop one into the uploads bucket."
        )
    st.caption(f"{total:,} {'file' if total == 1 else 'files'}")
    st.dataframe(
        _shown(rows),
        key="worklist",
        hide_index=True,
        height=36 * min(len(rows) + 1, 13) + 2,
        selection_mode="single-row",
        on_select=lambda: _select(rows),
        column_config=_columns(),
        alt="Files that arrived, one a row: when, answer, probability of cancer, steps done, folder, source, scan id",
    )
    st.pagination(min(max(-(-total // scans.PAGE_ROWS), page), MAX_PAGES), key="page", bind="query-params")


def _page() -> int:
    """The page asked for, by the address or by a click."""
    asked = str(st.session_state.get("page", st.query_params.get("page", "1")))
    return min(max(int(asked), 1), MAX_PAGES) if asked.isdecimal() else 1


def _first_page() -> None:
    """Other filters, another list: it is read from its beginning."""
    st.session_state.page = 1


def _select(rows: list[Row]) -> None:
    """Remember the row by its id, as it was shown when it was chosen: by the next run newer rows may stand above it."""
    chosen = st.session_state.worklist.selection.rows
    st.session_state["worklist scan"] = rows[chosen[0]]["scan_id"] if chosen else None


def _shown(rows: list[Row]) -> pd.DataFrame:
    columns = {
        "Arrived": [row["uploaded_at"] for row in rows],
        "Answer": [row["prediction"] or row["reason"] for row in rows],
        "Probability": [row["probability"] for row in rows],
        "Steps": [_steps(row) for row in rows],
        "Folder": [row["label"] for row in rows],
        "Source": [row["source"] for row in rows],
        "Scan": [row["scan_id"] for row in rows],
    }
    return pd.DataFrame(columns)


def _steps(row: Row) -> list[str]:
    if row["reason"]:
        return ["Uploaded", "Rejected"]
    done = (True, True, row["scored"], row["described"], row["prepared"])
    return [step for step, is_done in zip(STEPS, done, strict=False) if is_done]


def _columns() -> dict[str, object]:
    config = st.column_config
    return {
        "Arrived": config.DatetimeColumn(format="MM-DD HH:mm:ss", timezone="UTC", help="UTC", width=125),
        "Answer": config.TextColumn(help="The prediction, or why the file was rejected", width=125),
        "Probability": config.ProgressColumn(
            "P(cancer)", format="percent", min_value=0, max_value=1, help="Calibrated", width=110
        ),
        "Steps": config.MultiselectColumn(options=STEPS, color=STEP_COLOURS, width=345),
        "Folder": config.TextColumn(width=100),
        "Source": config.TextColumn(width=80),
        "Scan": config.TextColumn(help="SHA-256 of the file, and the page where it has several"),
    }


def _detail(scan_id: str | None) -> None:
    """When each step of the chosen scan was done, from left to right."""
    if not scan_id:
        st.caption("Choose a row to see when each step was done, and to read the scan.")
        return
    try:
        trail = scans.trail(scan_id)
    except BigQueryError:
        st.error("This scan's steps cannot be read now.", icon=":material/cloud_off:")
        return
    name, read = st.columns([5, 1], vertical_alignment="center")
    name.text(f"Scan {scan_id}")
    accepted = any(step["step"] == "Accepted" for step in trail)
    if accepted and read.button("Read this scan", type="primary", width="stretch"):
        st.switch_page("views/read.py", query_params={"scan": scan_id})
    for start in range(0, len(trail), STEPS_A_LINE):
        for column, step in zip(st.columns(STEPS_A_LINE), trail[start:], strict=False):
            column.markdown(f"**{step['step']}**  \n:gray[{step['at']:%Y-%m-%d %H:%M:%S}]")
            column.text(step["detail"])


main()
