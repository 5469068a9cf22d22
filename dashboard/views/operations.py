"""Operations: is the pipeline moving, and do scans and predictions still look as they did in training?"""

import resource
from datetime import UTC, datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from prometheus_client.samples import Sample

from dashboard import evaluation_report, inference_client, metric_charts
from dashboard.components import asking, draw, quiet, short
from dashboard.queries import operations
from shared.gcp.bigquery import Row

OUTCOMES = {"Accepted": "#4a7fc1", "Scored": "#2f9e6f", "Rejected": "#c8553d"}
STATISTICS = ("mean", "std", "skewness", "kurtosis")


def main() -> None:
    """The page."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    window = left.segmented_control(
        "Look back", list(operations.WINDOWS), default="Last day", required=True, key="window", bind="query-params"
    )
    right.button("Refresh", icon=":material/refresh:", width="stretch", on_click=st.cache_data.clear)
    with asking("waiting"):
        _waiting(operations.waiting(), operations.dead_letters(window))
    flow, refused = st.columns([3, 2], gap="large")
    with flow, asking("throughput"):
        _throughput(operations.throughput(window))
    with refused, asking("rejections"):
        _rejections(operations.rejections(window))
    with asking("latency"):
        _latency(operations.latency(window))
    with asking("drift"):
        _drift(operations.inputs(window), operations.probabilities(window))
    _health()


def _waiting(rows: list[Row], letters: list[Row]) -> None:
    st.markdown("## Waiting, and out of retries")
    *steps, late, lost = st.columns(len(rows) + 2)
    for column, row in zip(steps, rows, strict=True):
        age = (datetime.now(UTC) - row["oldest"]).total_seconds() if row["oldest"] else 0
        oldest = f"oldest {_duration(age)}" if row["scans"] else "nothing waits"
        title = f"Accepted, not yet through {row['step']}"
        column.metric(title, f"{row['scans']:,}", oldest, delta_color="off", delta_arrow="off", border=True)
    stuck = sum(row["stuck"] for row in rows)
    word = "retries are over" if stuck else "nothing is stuck"
    late.metric("Waiting over 15 minutes", f"{stuck:,}", word, delta_color="off", delta_arrow="off", border=True)
    total, undone = (letters[0]["total"], letters[0]["lost"]) if letters else (0, 0)
    done = f"{total - undone:,} done since" if total else "no message is out of retries"
    lost.metric("Dead-letter messages", f"{total:,}", done, delta_color="off", delta_arrow="off", border=True)
    if letters:
        _letters(letters)


def _letters(letters: list[Row]) -> None:
    done = {True: "yes", False: "no", None: "cannot be told"}
    table = {
        "Out of retries": [row["exhausted_at"] for row in letters],
        "By": [row["subscription"] for row in letters],
        "Attempts": [row["attempts"] for row in letters],
        "Done since": [done[row["is_done"]] for row in letters],
        "Scan": [short(row["scan_id"] or "") for row in letters],
        "Generation of the upload": [str(row["generation"] or "") for row in letters],
    }
    when = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC", help="UTC")
    st.dataframe(
        pd.DataFrame(table),
        hide_index=True,
        column_config={"Out of retries": when},
        alt="Dead-letter messages, newest first",
    )
    st.caption("A dead letter is kept for 31 days, to be replayed as docs/operations/recovery.md tells.")


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _lines(
    frame: pd.DataFrame, value: str, by: str, title: str, colours: dict[str, str] | None = None
) -> alt.LayerChart:
    """A value over the time looked back on."""
    now = datetime.now(UTC)
    looked_at = (now - operations.WINDOWS[st.session_state["window"]][0], now)
    return metric_charts.over_time(frame, value, by, title, looked_at, colours=colours)


def _throughput(rows: list[Row]) -> None:
    st.markdown("## Files")
    if not rows:
        st.info("No file has arrived in this time.")
        return
    chart = _lines(pd.DataFrame(rows), "files", "outcome", "Files", OUTCOMES)
    draw(chart, "Files accepted, scored and rejected over time")


def _rejections(rows: list[Row]) -> None:
    st.markdown("## Rejected, by reason")
    if not rows:
        st.info("No file was rejected in this time.")
        return
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar()
        .encode(
            alt.X("files:Q", title="Files", axis=alt.Axis(tickMinStep=1, format="d", tickCount=5)),
            alt.Y("reason:N", sort="-x", title=None),
            alt.Color("source:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["reason", "source", "files"],
        )
        .properties(height=260)
    )
    draw(chart, "Rejected files by reason and source")


def _latency(rows: list[Row]) -> None:
    st.markdown("## Seconds from upload to answer")
    if not rows:
        st.info("No scan was scored in this time.")
        return
    quantiles = pd.DataFrame(rows).melt("at", ["p50", "p95", "p99"], "quantile", "seconds")
    chart = _lines(quantiles, "seconds", "quantile", "Seconds")
    draw(chart, "Median, 95th and 99th percentile of the seconds from upload to answer, over time")


def _drift(inputs: list[Row], probabilities: list[Row]) -> None:
    report = evaluation_report.of_release(inference_client.model()["version"])
    reference = report.reference if report else {}
    st.markdown("## Drift")
    if not reference:
        st.caption("The served release has no training reference in its report, so the curves stand alone.")
    left, right = st.columns(2, gap="large")
    with left:
        _inputs(inputs, reference)
    with right:
        _probabilities(probabilities, reference.get("probability"))


def _inputs(rows: list[Row], reference: dict[str, Any]) -> None:
    """How far each pixel statistic has moved, in standard deviations of the training scans if these are known."""
    st.markdown("Prepared pixels of arriving scans")
    if not rows:
        st.info("No features were written in this time.")
        return
    frame = pd.DataFrame(rows)
    known = [name for name in STATISTICS if name in reference]
    for name in known:
        frame[name] = (frame[name] - reference[name]["mean"]) / reference[name]["std"]
    lines = frame.melt("at", known or list(STATISTICS), "statistic", "value")
    title = "Standard deviations from training" if known else "Value"
    draw(_lines(lines, "value", "statistic", title), "Pixel statistics of arriving scans over time")


def _probabilities(rows: list[Row], reference: list[float] | None) -> None:
    st.markdown("Calibrated probabilities")
    if not rows:
        st.info("No scan was scored in this time.")
        return
    counts = pd.Series({row["tenth"]: row["scans"] for row in rows}).reindex(range(10), fill_value=0)
    shares = pd.DataFrame(
        {"probability": [(tenth + 0.5) / 10 for tenth in range(10)], "share": (counts / counts.sum()).tolist()}
    )
    x = alt.X("probability:Q", title="Probability of cancer", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    chart = (
        alt.Chart(shares)
        .mark_bar(size=26)
        .encode(x, alt.Y("share:Q", title="Share of scans", axis=alt.Axis(format="%")))
    )
    if reference:
        chart += (
            alt.Chart(shares.assign(share=reference))
            .mark_line(point=True, color=quiet(), strokeDash=[4, 4])
            .encode(x, y="share:Q")
        )
    draw(chart.properties(height=260), "Share of scans by calibrated probability, in tenths")
    if reference:
        st.caption("Dashed: the test scans at release.")


def _health() -> None:
    st.markdown("## Health")
    api_column, table_column, own = st.columns(3)
    ready = inference_client.is_ready()
    api_column.metric("Inference service", "ready" if ready else "not ready", border=True)
    with table_column:
        _bigquery_seconds()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own.metric("Memory of this dashboard at its peak", f"{peak:,.0f} MiB", border=True)
    if ready:
        with asking("metrics"):
            _service(inference_client.metrics())


def _bigquery_seconds() -> None:
    start = datetime.now(UTC)
    with asking("bigquery"):
        operations.ping()
        took = (datetime.now(UTC) - start).total_seconds()
        st.metric("BigQuery answers in", f"{took:.2f} s", border=True)


def _service(samples: list[Sample]) -> None:
    """What the inference service has counted since it started."""
    sums = {s.labels["stage"]: s.value for s in samples if s.name == "scanflow_stage_seconds_sum"}
    counts = {s.labels["stage"]: s.value for s in samples if s.name == "scanflow_stage_seconds_count"}
    stages = [
        {"Stage": stage, "Times": int(count), "Mean": f"{sums[stage] / count * 1000:.2f} ms"}
        for stage, count in counts.items()
        if count
    ]
    responses = [
        {"Status": sample.labels["status"], "Responses": int(sample.value)}
        for sample in samples
        if sample.name == "scanflow_responses_total"
    ]
    left, right = st.columns(2, gap="large")
    left.markdown("Inference service since its start, by stage")
    if stages:
        left.table(pd.DataFrame(stages), hide_index=True)
    else:
        left.info("Its stages stand here after its first scan.")
    right.markdown("Its responses, by HTTP status")
    if responses:
        right.table(pd.DataFrame(responses), hide_index=True)
    else:
        right.info("Statuses stand here after its first response.")


main()
