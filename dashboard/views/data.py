"""Data: what has been collected, and whether all of it arrived."""

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from dashboard.components import LABELS, coloured, draw, short, tabs
from dashboard.queries import collection, feedback
from shared.gcp.bigquery import Row


def main() -> None:
    """The page."""
    tabs(
        "part",
        {
            "Scans": lambda: _scans(collection.composition()),
            "Features": lambda: _projection(collection.embeddings()),
            "Ingestion checks": lambda: _checks(collection.ingestion_checks()),
            "Readers' corrections": lambda: _corrections(feedback.disagreements()),
        },
    )


def _scans(rows: list[Row]) -> None:
    if not rows:
        st.info("No scan has been accepted yet. Drop one into the uploads bucket.")
        return
    groups = pd.DataFrame(rows)
    twins = collection.duplicates()
    facts = {
        "Scans": groups["scans"].sum(),
        "Sources": groups["source"].nunique(),
        "Same pixels as another": twins["same_pixels"],
        "In two folders": twins["conflicts"],
    }
    for column, (name, value) in zip(st.columns(4), facts.items(), strict=True):
        column.metric(name, f"{value:,}", border=True)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("## Folder and source")
        draw(_stacked(groups, "source"), "Scans by source and folder")
    with right:
        st.markdown("## Format")
        draw(_stacked(groups, "format"), "Scans by format and folder")
    st.markdown("## Size in pixels")
    draw(_sizes(collection.sizes()), "Scans by width and height, the 300 most frequent sizes")


def _stacked(groups: pd.DataFrame, by: str) -> alt.Chart:
    totals = groups.groupby([by, "label"], as_index=False)["scans"].sum()
    chart: alt.Chart = (
        alt.Chart(totals)
        .mark_bar()
        .encode(
            alt.X("scans:Q", title="Scans", axis=alt.Axis(tickMinStep=1, tickCount=6)),
            alt.Y(f"{by}:N", sort="-x", title=None),
            coloured("label", LABELS),
            tooltip=[by, "label", "scans"],
        )
        .properties(height=130 + 36 * totals[by].nunique())
    )
    return chart


def _sizes(rows: list[Row]) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_circle(opacity=0.6)
        .encode(
            alt.X("width:Q", title="Width", axis=alt.Axis(tickCount=8)),
            alt.Y("height:Q", title="Height"),
            alt.Size("scans:Q", title="Scans", scale=alt.Scale(range=[40, 1500]), legend=None),
            coloured("label", LABELS),
            tooltip=["width", "height", "label", "scans"],
        )
        .properties(height=360)
    )
    return chart


def _projection(rows: list[Row]) -> None:
    described = [row for row in rows if row["embedding"]]
    if len(described) < 3:
        st.info("A projection needs the features of at least three scans. write_features makes them.")
        return
    by = st.segmented_control("Colour by", ("label", "source"), default="label", required=True, key="colour by")
    frame = _principal(described)
    share = frame.attrs["explained"]
    colour = (
        coloured("label", LABELS)
        if by == "label"
        else alt.Color("source:N", legend=alt.Legend(orient="top"), title=None)
    )
    chart = (
        alt.Chart(frame)
        .mark_circle(size=46, opacity=0.75)
        .encode(
            alt.X("first:Q", title="First component"),
            alt.Y("second:Q", title="Second component"),
            colour,
            tooltip=["scan", "label", "source"],
        )
        .properties(height=480)
        .interactive()
    )
    draw(chart, "The newest scans' embeddings on their first two principal components")
    st.caption(
        f"The released model's embeddings of the newest {len(frame):,} scans, on their first two principal components, "
        f"which hold {share:.0%} of the variance. A cloud by source instead of by label warns of a shortcut."
    )


def _principal(rows: list[Row]) -> pd.DataFrame:
    """The first two principal components, by singular values of the centred embeddings."""
    vectors = np.array([row["embedding"] for row in rows])
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    frame = pd.DataFrame(left[:, :2] * singular[:2], columns=["first", "second"])
    frame = frame.assign(
        label=[r["label"] for r in rows], source=[r["source"] for r in rows], scan=[short(r["scan_id"]) for r in rows]
    )
    frame.attrs["explained"] = float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-12))
    return frame


def _checks(rows: list[Row]) -> None:
    if not rows:
        st.info("No ingestion check has run yet. Cloud Scheduler calls verify_ingestion.")
        return
    checks = pd.DataFrame(rows)
    last = checks[checks["check_id"] == checks["check_id"].iloc[0]]
    if last["passed"].all():
        st.success("The last check passed: every count agrees, and no hash differs.", icon=":material/check_circle:")
    else:
        failed = ", ".join(last[~last["passed"]]["label"])
        st.error(f"The last check failed for {failed}. Compare the counts of its lines.", icon=":material/error:")
    st.dataframe(
        checks.drop(columns=["check_id", "recorded_at"]),
        hide_index=True,
        column_config={
            "label": "Folder",
            "source_files": st.column_config.NumberColumn("Source", help="Empty where no source bucket is configured"),
            "uploaded_files": "Uploads",
            "stored_files": "Scans and quarantine",
            "recorded_files": "BigQuery",
            "rehashed": "Hashed again",
            "mismatched": "Of these, different",
            "passed": "Passed",
            "checked_at": st.column_config.DatetimeColumn("Checked", format="YYYY-MM-DD HH:mm:ss"),
        },
        alt="Ingestion checks, newest first",
    )


def _corrections(rows: list[Row]) -> None:
    if not rows:
        st.info("No reader has corrected an answer yet. Corrections are given on Read a scan.")
        return
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "given_at": st.column_config.DatetimeColumn("Given", format="YYYY-MM-DD HH:mm"),
            "scan_id": "Scan",
            "prediction": "The model said",
            "probability": st.column_config.NumberColumn("P(cancer)", format="percent"),
            "reading": "The reader sees",
            "reason": "Why",
            "model_version": "Model",
        },
        alt="Answers that readers corrected, newest first",
    )
    st.caption("By scan id, `reading` is the label for the next training. The table can be downloaded from its corner.")


main()
