"""Studies: series that came through the bucket, each with one answer, and the slice that it rests on most."""

import os
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import inference_client, overlay
from dashboard.components import asking, bar, patiently, text_colours
from dashboard.export import percent
from dashboard.overlay import Look
from dashboard.queries import series
from shared import config
from shared.gcp.bigquery import BigQueryError, Row
from shared.pseudonyms import pseudonym


def main() -> None:
    """The page."""
    _search()
    live = st.toggle("Live", False, key="live studies", help=f"Look for new series every {series.REFRESH_S} seconds")
    st.fragment(_board, run_every=series.REFRESH_S if live else None)()


def _search() -> None:
    """Find a study by UID or accession number, of which only the pseudonym is kept: the field is emptied at once."""
    field, shown = st.columns([3, 2], vertical_alignment="bottom")
    has_key = "PSEUDONYM_KEY" in os.environ
    field.text_input(
        "Study Instance UID or accession number",
        key="study uid",
        max_chars=64,
        autocomplete="off",
        disabled=not has_key,
        on_change=_pseudonymise,
        placeholder="1.2.840…" if has_key else "Not possible here: this dashboard has no pseudonym key",
        help="It is turned into its pseudonym in your session, and neither stored nor sent on.",
    )
    if study := st.session_state.get("study wanted"):
        shown.button(f"Study {study[:12]}: show all again", icon=":material/close:", on_click=_show_all)


def _pseudonymise() -> None:
    uid = st.session_state["study uid"].strip().upper()
    st.session_state["study uid"] = ""
    st.session_state["studies page"] = 1
    st.session_state["study wanted"] = pseudonym(config.pseudonym_key(), uid) if uid else None


def _show_all() -> None:
    st.session_state["study wanted"] = None


def _board() -> None:
    """The part that runs again by itself: the list, and beside it the chosen series."""
    left, right = st.columns([7, 3], gap="medium")
    with left:
        rows = _table()
    chosen = next((row for row in rows if row["series_id"] == st.session_state.get("chosen series")), None)
    with right, st.container(border=True, key="chosen" if chosen else None):
        _detail(chosen)


def _table() -> list[Row]:
    page, study = int(st.session_state.get("studies page", 1)), st.session_state.get("study wanted") or ""
    try:
        rows = patiently(lambda: series.answered(page, study), known="studies rows")
    except BigQueryError:
        st.error("The list of series cannot be reached.", icon=":material/cloud_off:")
        st.button("Try again", icon=":material/refresh:")
        return []
    if not rows and study:
        st.info("No series of this study has been answered. Is the UID, or the accession number, whole?")
        return []
    if not rows:
        st.info("No series has been answered yet. One stands here half a minute after its last slice was scored.")
        return []
    st.dataframe(
        _shown(rows),
        key="studies",
        hide_index=True,
        height=36 * min(len(rows) + 1, 15) + 2,
        selection_mode="single-row",
        on_select=lambda: _select(rows),
        column_config=_columns(),
        alt="Series that were answered, one per row: answer, probability of cancer, study, series, slices",
    )
    st.pagination(max(-(-rows[0]["total"] // series.PAGE_ROWS), 1), key="studies page")
    return rows


def _select(rows: list[Row]) -> None:
    chosen = st.session_state.studies.selection.rows
    st.session_state["chosen series"] = rows[chosen[0]]["series_id"] if chosen else None


def _shown(rows: list[Row]) -> "pd.io.formats.style.Styler":
    columns = {
        "Answered": [row["answered_at"] for row in rows],
        "Answer": [row["prediction"] for row in rows],
        "P(cancer)": [None if row["prediction"] == "Not a brain MRI" else bar(row["probability"]) for row in rows],
        "Study": [(row["study_id"] or "none")[:12] for row in rows],
        "Series": [row["series_id"][:12] for row in rows],
        "Slices": [_slices(row) for row in rows],
        "Folder": [row["label"] for row in rows],
        "Source": [row["source"] for row in rows],
    }
    styles = [f"color: {text_colours()[row['prediction']]}" for row in rows]
    return pd.DataFrame(columns).style.apply(lambda _: styles, subset=["Answer", "P(cancer)"])


def _slices(row: Row) -> str:
    return f"{row['scored']}" if row["scored"] == row["accepted"] else f"{row['scored']} of {row['accepted']}"


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "Answered": config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC", help="UTC", width=120),
        "Answer": config.TextColumn(width=105),
        "P(cancer)": config.TextColumn(help="Probability of cancer of the series", width=122),
        "Study": config.TextColumn(help="The beginning of a pseudonym", width=102),
        "Series": config.TextColumn(help="The beginning of a pseudonym", width=102),
        "Slices": config.TextColumn(help="That the answer rests on, of those accepted", width=75),
        "Folder": config.TextColumn(width=88),
        "Source": config.TextColumn(width=70),
    }


def _detail(row: Row | None) -> None:
    st.markdown("## Chosen series")
    if row is None:
        st.caption("Choose a row to see its most suspicious slice, and to read the series.")
        return
    st.markdown(f"**{row['prediction']}** by model {row['model_version']}")
    if row["prediction"] != "Not a brain MRI":
        low, high = percent(row["lowest_probability"]), percent(row["highest_probability"])
        st.caption(f"Without any one of its slices the probability would be {low} to {high}.")
    if st.button("Read this series", type="primary", width="stretch"):
        st.switch_page("views/read.py", query_params={"series": row["series_id"]})
    with asking("thumbnail"):
        _thumbnail(row)


def _thumbnail(row: Row) -> None:
    """The most suspicious slice with its heat map."""
    names = {each["scan_id"]: each["object_name"] for each in series.slices(row["series_id"])}
    suspicious = next((scan_id for scan_id in row["suspicious_scan_ids"] if scan_id in names), None)
    if suspicious:
        picture = _overlay(names[suspicious])
        st.image(
            picture, "Its most suspicious slice", width="stretch", output_format="PNG", alt="Most suspicious slice"
        )


@st.cache_data(ttl=600, max_entries=50, show_spinner=False)
def _overlay(object_name: str) -> bytes:
    """Return a stored slice with its heat map, as a PNG. Raises InferenceError."""
    (result, *_) = inference_client.read_uri(f"gs://{config.scans_bucket()}/{object_name}")
    return overlay.png(overlay.overlay(result, Look()))


main()
