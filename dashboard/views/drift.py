"""Drift: the verdict first, then what changed and since when, and the scans that look least like the reference."""

import json

import pandas as pd
import streamlit as st

from dashboard.components import asking, plain, short, table
from dashboard.export import percent
from dashboard.queries import drift
from shared.gcp.bigquery import Row

CHANGES = {"none": "No change", "inputs": "Inputs", "case mix": "Case mix"}


def main() -> None:
    """The page."""
    with asking("drift"):
        checks = drift.checks()
        if not checks:
            st.info(
                "No drift check has run in 30 days. Its verdict stands here once Cloud Scheduler calls check_drift."
            )
            return
        newest = checks[0]
        _verdict(newest)
        _tests(json.loads(newest["tests"]))
        _foreign(newest["foreign_scans"])
        _history(checks)


def _verdict(check: Row) -> None:
    """What the newest check says, in a sentence."""
    since = f"since {check['since']:%Y-%m-%d %H:%M} UTC"
    cause = f"most likely {plain(check['cause'])}" if check["cause"] else "the cause is not known"
    if check["change"] == "inputs":
        st.warning(
            f"**The inputs have changed**, {since}: {cause}. Trust the release less until its figures on such scans "
            "are known: look at the scans below, and have some of them read.",
            icon=":material/warning:",
        )
    elif check["change"] == "case mix":
        st.info(f"**The case mix has changed**, {since}: {cause}. The scans themselves look as before.")
    elif json.loads(check["tests"]):
        st.success(f"**No drift found**, {since}: the newest scans look like those that the release knows.")
    else:
        st.info("**Too few scans to tell.** A check needs at least 16 scans of one predicted class.")
    accuracy = check["expected_accuracy"]
    for column, (name, value) in zip(
        st.columns(4),
        {
            "Scans compared": f"{check['scans']:,}",
            "p-value, corrected": p_value(check["p_value"]),
            "Alarm below": f"{check['level']:.4f}",
            "Accuracy that the probabilities promise": "not known" if accuracy is None else percent(accuracy),
        }.items(),
        strict=True,
    ):
        column.metric(name, value, border=True)
    st.caption(
        f"Model {check['model_version']}, checked at {check['checked_at']:%Y-%m-%d %H:%M} UTC. The promised accuracy "
        "holds as long as the inputs have not changed."
    )


def _tests(tests: list[dict[str, float | str]]) -> None:
    st.markdown("## What was tested")
    if not tests:
        st.caption("Nothing, for want of scans.")
        return
    rows = {
        "p-value": [p_value(float(test["p_value"])) for test in tests],
        "Effect": [f"{test['effect']:.2f}" for test in tests],
    }
    table(pd.DataFrame(rows, index=[str(test["about"]) for test in tests]), "About")


def p_value(value: float) -> str:
    """Return a p-value in four digits: one that is smaller is not nothing."""
    return f"{value:.4f}" if value >= 0.0001 else "below 0.0001"


def _foreign(scan_ids: list[str]) -> None:
    st.markdown("## The scans that look least like the reference")
    if not scan_ids:
        st.caption("None stands out.")
    for start in (0, 5):
        for column, (place, scan_id) in zip(
            st.columns(5), enumerate(scan_ids[start : start + 5], start + 1), strict=False
        ):
            name = f"{place}. {short(scan_id)}"
            column.page_link("views/read.py", label=name, icon=":material/radiology:", query_params={"scan": scan_id})


def _history(checks: list[Row]) -> None:
    st.markdown("## Checks of the last 30 days")
    columns = {
        "Checked": [check["checked_at"] for check in checks],
        "Change": [CHANGES.get(check["change"], check["change"]) for check in checks],
        "Cause": [check["cause"] for check in checks],
        "p-value": [check["p_value"] for check in checks],
        "Scans": [check["scans"] for check in checks],
        "Model": [check["model_version"] for check in checks],
    }
    st.dataframe(
        pd.DataFrame(columns),
        hide_index=True,
        column_config={
            "Checked": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC", help="UTC"),
            "p-value": st.column_config.NumberColumn(format="%.4f"),
        },
        alt="Drift checks, newest first: when, what changed, most likely cause, p-value, scans, model",
    )


main()
