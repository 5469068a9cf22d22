"""Worklist: what arrived through the bucket lately, newest first, with how far each scan has come."""

from datetime import timedelta
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import LABELS, PREDICTIONS, bar, is_phone, patiently, short, text_colours
from dashboard.queries import scans
from shared.gcp.bigquery import BigQueryError, Row

MAX_PAGES = 1_000_000
STEPS = ("Accepted", "Scored", "Rejected")
STEP_COLOURS = ("gray", "green", "red")


def main() -> None:
    """The page."""
    asked = _asked()
    left, right = st.columns([3, 1], vertical_alignment="center")
    live = left.toggle("Live", False, key="live", help=f"Look for new scans every {scans.REFRESH_S} seconds")
    right.button("Refresh", icon=":material/refresh:", width="stretch", on_click=scans.worklist.clear)
    st.fragment(_board, run_every=scans.REFRESH_S if live else None)(*asked)


def _asked() -> tuple[str, str, str | None, dict[str, str]]:
    """What is looked for, and in which order; it travels in the address, so that a worklist can be sent as a link."""
    with st.expander("Order and filters", expanded=not is_phone(), icon=":material/filter_list:"):
        window, search, sort, status, prediction, label, source = st.columns([2, 3, 3, 3, 2, 2, 2])
    linked: dict[str, Any] = {"bind": "query-params", "on_change": _first_page}
    optional = linked | {"index": None, "placeholder": "Any"}
    back = window.selectbox("Look back", list(scans.WINDOWS), key="back", **linked)
    beginning = search.text_input("Scan id begins with", key="search", max_chars=70, **linked)
    order = sort.selectbox("Order", list(scans.SORTS), key="sort", **linked)
    reached = status.selectbox("Status", list(scans.STATUSES), key="status", **optional)
    chosen = {
        "search": beginning.strip().lower(),
        "prediction": prediction.selectbox("Prediction", PREDICTIONS, key="prediction", **optional),
        "label": label.selectbox("Folder", LABELS, key="label", **optional),
        "source": source.selectbox("Source", _sources(back), key="source", **optional),
    }
    return back, order, reached, {name: value for name, value in chosen.items() if value}


def _sources(back: str) -> list[str]:
    """The known sources, and the one that is asked for: its first scan may be newer than what is known."""
    asked = st.session_state.get("source") or st.query_params.get("source")
    try:
        known = scans.sources(back)
    except BigQueryError:
        known = []  # the table beneath says that BigQuery cannot be reached
    return sorted({*known, asked}) if asked else known


def _board(back: str, sort: str, status: str | None, filters: dict[str, str]) -> None:
    """The part that runs again by itself: the list, and beside it what became of the chosen scan."""
    left, right = st.columns([7, 3], gap="medium")
    with left:
        _table(back, sort, status, filters)
    chosen = st.session_state.get("worklist scan")
    with right, st.container(border=True, key="chosen" if chosen else None):
        _detail(chosen)


def _table(back: str, sort: str, status: str | None, filters: dict[str, str]) -> None:
    try:
        rows, page = patiently(lambda: _rows(back, sort, status, filters), known="worklist rows")
    except BigQueryError:
        st.error("The list of scans cannot be reached. Your filters are kept.", icon=":material/cloud_off:")
        st.button("Try again", icon=":material/refresh:")
        return
    st.session_state["page"] = page
    total = rows[0]["total"] if rows else 0
    if not rows:
        _nothing(back, bool(filters or status))
    st.caption(f"{total:,} {'file' if total == 1 else 'files'} · {back.lower()}")
    st.dataframe(
        _shown(rows),
        key="worklist",
        hide_index=True,
        height=36 * min(max(len(rows), 1) + 1, 15) + 2,
        selection_mode="single-row",
        on_select=lambda: _select(rows),
        column_config=_columns(),
        alt="Files that arrived, one per row: when, answer, probability of cancer, step, readers, folder, source, scan",
    )
    st.pagination(max(-(-total // scans.PAGE_ROWS), 1), key="page", bind="query-params")


def _nothing(back: str, is_narrowed: bool) -> None:
    further = "" if scans.WINDOWS[back] is None else f" This is the {back.lower()}: look further back for older ones."
    st.info(("No scan matches." if is_narrowed else "No scan has arrived. Drop one into the uploads bucket.") + further)


def _rows(back: str, sort: str, status: str | None, filters: dict[str, str]) -> tuple[list[Row], int]:
    """Return the page asked for, or the last one if there are fewer, and its number. Raises BigQueryError."""
    page = _page()
    rows = scans.worklist(back, sort, status, filters, page)
    if not rows and page > 1:
        first = scans.worklist(back, sort, status, filters, 1)
        page = max(-(-first[0]["total"] // scans.PAGE_ROWS), 1) if first else 1
        rows = scans.worklist(back, sort, status, filters, page)
    return rows, page


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
    st.session_state["worklist scan"] = rows[chosen[0]] if chosen else None
    st.session_state["worklist ids"] = [row["scan_id"] for row in rows if not row["reason"]]


def _shown(rows: list[Row]) -> "pd.io.formats.style.Styler":
    colours = text_colours()
    columns = {
        "Arrived": [row["uploaded_at"] for row in rows],
        "Answer": [row["prediction"] or row["reason"] for row in rows],
        "P(cancer)": [_probability(row) for row in rows],
        "Step": [[_step(row)] for row in rows],
        "Readers": [_readers(row) for row in rows],
        "Folder": [row["label"] for row in rows],
        "Source": [row["source"] for row in rows],
        "Scan": [short(row["scan_id"]) for row in rows],
    }
    styles = [f"color: {colours[row['prediction']]}" if row["prediction"] else "" for row in rows]
    return pd.DataFrame(columns).style.apply(lambda column: styles, subset=["Answer", "P(cancer)"])


def _probability(row: Row) -> str:
    """A bar and the probability in whole per cent; nothing if there is no answer about a tumour."""
    if row["probability"] is None or row["prediction"] == "Not a brain MRI":
        return ""
    return bar(row["probability"])


def _readers(row: Row) -> str:
    said = [f"{row[kind]} {kind}" for kind in ("agreed", "disagreed") if row[kind]]
    return ", ".join(said)


def _step(row: Row) -> str:
    """The furthest that a file has come."""
    if row["reason"]:
        return "Rejected"
    return "Scored" if row["is_scored"] else "Accepted"


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "Arrived": config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC", help="UTC", width=120),
        "Answer": config.TextColumn(help="The prediction, or why the file was rejected", width=107),
        "P(cancer)": config.TextColumn(help="Calibrated probability of cancer", width=122),
        "Step": config.MultiselectColumn(
            options=STEPS, color=STEP_COLOURS, width=88, help="What follows stands beside"
        ),
        "Readers": config.TextColumn(help="What readers said of the answer", width=88),
        "Folder": config.TextColumn(width=88),
        "Source": config.TextColumn(width=70),
        "Scan": config.TextColumn(help="The beginning of its id, and the page if the file has several", width=102),
    }


def _detail(row: Row | None) -> None:
    """When each step of the chosen scan was done."""
    st.markdown("## Chosen scan")
    if not row:
        st.caption("Choose a row to see when each step was done, and to read the scan.")
        return
    try:
        trail = scans.trail(row["scan_id"], row["uploaded_at"] - timedelta(days=1))
    except BigQueryError:
        st.error("This scan's steps cannot be read now.", icon=":material/cloud_off:")
        return
    accepted = any(step["step"] == "Accepted" for step in trail)
    if accepted and st.button("Read this scan", type="primary", width="stretch", shortcut="Enter"):
        st.switch_page("views/read.py", query_params={"scan": row["scan_id"]})
    for step in trail:
        st.markdown(f"**{step['step']}** · {step['at']:%Y-%m-%d %H:%M:%S}")
        st.text(step["detail"])
    with st.expander("Its whole id"):
        st.code(row["scan_id"], language=None, wrap_lines=True)


main()
