"""Model: what is served, how good it is, and what moving the threshold would do."""

import json
from itertools import pairwise
from math import isnan
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import evaluation_report, inference_client, live_figures, metric_charts
from dashboard.components import asking, draw, table, tabs
from dashboard.evaluation_report import EvaluationReport
from dashboard.queries import releases, review
from shared.gcp.bigquery import Row
from shared.ml.intervals import Share

SPLITS = {
    "validation": "Validation",
    "test": "Test",
    "cross_validation": "Cross-validation",
    "leave_one_source_out": "Left-out source",
}
NAMED = {
    "per_class": ("By class and source", "Scans of test that were called right."),
    "per_source": ("By source of tumours", "Specificity is of all scans without a tumour in the part."),
    "shortcuts": ("Without seeing a tumour", "Balanced accuracy on test of classifiers that see only this of a file."),
}
"""Groups of the report that are always open: title, and what they are."""
GALLERIES = ("Heat maps", "Failures")
NO_REPORT = "The served release has no report."
OUTCOMES = {
    "in shadow": "In shadow",
    "canary": "Answers a share",
    "promoted": "Promoted",
    "kept back": "Kept back",
    "withdrawn": "Withdrawn",
    "rolled back to": "Rolled back to",
    "commissioned": "Site commissioned",
}


def main() -> None:
    """The page."""
    served: dict[str, Any] = {}
    first = st.container()
    with asking("model"):
        served = inference_client.model()
        st.markdown(f"Served now: **{served['version']}**, which says Cancer from {served['threshold']:.1%} on.")
    report = None
    with asking("report"):
        report = _report(served.get("version", ""))
    if report and (abilities := report.abilities()):
        first.markdown(f"**{abilities}** It names no other disease, and scans unlike these may fare worse.")
    tabs(
        "part",
        {
            "Figures": lambda: _figures(report),
            "In service": lambda: _in_service(served.get("version", "")),
            "Threshold": lambda: _threshold(report, served.get("threshold", 0.5)),
            "Heat maps": lambda: _heat_maps(report),
            "Versions": lambda: _versions(releases.decisions(), releases.versions()),
            "Card and report": lambda: _card(report),
        },
    )


def _report(served: str) -> EvaluationReport | None:
    """Return the served version's own report, or the shipped one's if no service says what is served."""
    version = served or evaluation_report.shipped_version()
    report = evaluation_report.of_release(version)
    if report is None:
        st.warning(
            f"Release {version} has no report, so there is no figure to judge it by. `make report` writes one, and "
            "promoting a release stores it beside the model.",
            icon=":material/help:",
        )
    elif not served:
        st.caption(f"The figures below are of release {version}, which ships with this code.")
    return report


def _figures(report: EvaluationReport | None) -> None:
    if report is None:
        st.info(NO_REPORT)
        return
    metrics, curves = report.metrics, report.drawn_curves()
    splits = {key: title for key, title in SPLITS.items() if key in metrics}
    st.markdown("## On groups of scans that training never saw")
    table(metric_charts.measured({title: metrics[key] for key, title in splits.items()}), "Metric")
    st.caption("In brackets: 95% confidence interval, by bootstrap over groups of near-identical scans.")
    if curves:
        name = _split(curves, "figures")
        _curves(curves[name], metrics.get("threshold", 0.5))
        if name in metrics:
            st.markdown("## Confusion: of 100 scans of each kind, at the operating threshold")
            table(metric_charts.confusion(metrics[name]), "Labelled")
    for name, (title, meaning) in NAMED.items():
        if metrics.get(name):
            st.markdown(f"## {title}")
            table(metric_charts.listed(metrics[name]), "Of")
            st.caption(meaning)
    st.markdown("## More of the report")
    for name, group in metrics.items():
        if name not in (*SPLITS, *NAMED) and isinstance(group, dict) and group:
            with st.expander(name.replace("_", " ").capitalize()):
                table(metric_charts.listed(group), "Of")


def _in_service(version: str) -> None:
    """What readers of the random sample say of the release's answers, by source."""
    st.markdown("## On the random sample that readers read")
    figures = live_figures.by_source(review.sample_readings(version)) if version else {}
    if not figures:
        st.info(
            "Nobody has read a scan of the random sample that this release answered in the last 30 days. They wait on "
            "the page Review.",
            icon=":material/rule:",
        )
        return
    columns = {
        "Scans": [str(each.scans) for each in figures.values()],
        "Sensitivity": [_interval(each.sensitivity) for each in figures.values()],
        "Specificity": [_interval(each.specificity) for each in figures.values()],
        "Readers agree with it": [_interval(each.agreement) for each in figures.values()],
        "Readers agree with each other": [_interval(each.readers_agree) for each in figures.values()],
        "Undecided": [str(each.conflicts) for each in figures.values()],
    }
    table(pd.DataFrame(columns, index=list(figures)), "Source")
    st.caption(
        "In brackets: 95% interval (Wilson's; slices of one series count as one observation). A refusal is an error. "
        "Scans of which readers disagree are undecided, and nobody who cannot tell is counted."
    )


def _interval(share: Share) -> str:
    return "none read" if isnan(share.value) else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _split(curves: dict[str, Any], key: str) -> str:
    """Which scans the curves are of."""
    order = sorted(curves, key=lambda name: name != "test")
    return st.segmented_control(
        "Measured on",
        order,
        default=order[0],
        required=True,
        key=f"split {key}",
        format_func=lambda s: SPLITS.get(s, s),
    )


def _curves(curve: dict[str, Any], threshold: float) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("## ROC")
        chart = metric_charts.roc(curve["roc"], evaluation_report.operating_point(curve["roc"], threshold))
        draw(chart, "Sensitivity against the share of healthy scans called Cancer")
        st.caption(f"The dot: the operating threshold of {threshold:.1%}.")
    with right:
        st.markdown("## Calibration")
        if curve.get("calibration"):
            chart = metric_charts.calibration(curve["calibration"])
            draw(chart, "Share of Cancer among scans, against the probability that the model gave")
            st.caption("Dashed: a model whose probabilities are right. Dots are as large as they hold scans.")
        else:
            st.caption("The report has no calibration curve for these scans.")


def _threshold(report: EvaluationReport | None, served: float) -> None:
    """What a reader would gain and lose by another operating threshold."""
    curves = report.drawn_curves() if report else {}
    if not curves:
        st.info(NO_REPORT if report is None else f"The report of release {report.version} has no ROC curve.")
        return
    curve = curves[_split(curves, "threshold")]
    left, right = st.columns([2, 3], gap="large")
    with left:
        threshold = st.slider("Call it Cancer from", 0.0, 1.0, round(served, 3), 0.001, key="threshold", format="%.3f")
        prevalence = st.slider(
            "Prevalence in %", 0.1, 99.0, 10.0, 0.1, key="prevalence", help="Share of those scanned who have a tumour"
        )
    sensitivity, specificity = evaluation_report.operating_point(curve["roc"], threshold)
    positive, negative = evaluation_report.predictive_values(sensitivity, specificity, prevalence / 100)
    left.caption("Between the points of the ROC curve, by straight lines.")
    with right:
        values = {"Sensitivity": sensitivity, "Specificity": specificity, "PPV": positive, "NPV": negative}
        for column, (name, value) in zip(st.columns(4), values.items(), strict=True):
            column.metric(name, f"{value:.1%}", border=True)
        _thousand(sensitivity, specificity, prevalence / 100)


def _thousand(sensitivity: float, specificity: float, prevalence: float) -> None:
    """The confusion matrix of a thousand people."""
    ill, well = 1000 * prevalence, 1000 * (1 - prevalence)
    st.markdown("Of 1,000 people scanned")
    table(
        pd.DataFrame(
            {
                "Called Cancer": [f"{ill * sensitivity:.0f}", f"{well * (1 - specificity):.0f}"],
                "Called Non-Cancer": [f"{ill * (1 - sensitivity):.0f}", f"{well * specificity:.0f}"],
            },
            index=["have a tumour", "have none"],
        ),
        "Of 1,000",
    )


def _heat_maps(report: EvaluationReport | None) -> None:
    """The report's own galleries: what the model looked at where it was right, and where it was wrong."""
    galleries = [picture for picture in report.pictures if picture.title in GALLERIES] if report else []
    if not galleries:
        st.info(NO_REPORT if report is None else f"The report of release {report.version} has no heat maps.")
    for picture in galleries:
        st.markdown(f"## {picture.title}")
        content = evaluation_report.file(report.version, picture.file) if report else None
        if content is None:
            st.caption("The report lacks this picture.")
            continue
        alt = f"{picture.title}. {picture.meaning}"
        with st.container(key=f"gallery {picture.title}"):
            st.image(content, picture.meaning, width="stretch", output_format="PNG", alt=alt)


def _versions(decisions: list[Row], scorers: list[Row]) -> None:
    _decisions(decisions)
    _scorers(scorers)
    _comparison(decisions, scorers)


def _decisions(decisions: list[Row]) -> None:
    st.markdown("## Release decisions")
    if not decisions:
        st.caption(
            "No release has been decided on yet: what is served came with the code. "
            "`python -m services.training shadow` applies the promotion criteria and records the decision."
        )
        return
    decided = {
        "Decided": [row["decided_at"] for row in decisions],
        "Version": [row["version"] for row in decisions],
        "Outcome": [OUTCOMES.get(row["outcome"], row["outcome"]) for row in decisions],
        "Current until then": [row["before"] for row in decisions],
        "Why": [" ".join(row["reasons"]) or None for row in decisions],
    }
    st.dataframe(
        pd.DataFrame(decided),
        hide_index=True,
        column_config={
            "Decided": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC", help="UTC"),
            "Why": st.column_config.TextColumn(width="large"),
        },
        alt="Decisions of the promotion criteria and of people, newest first",
    )


def _scorers(versions: list[Row]) -> None:
    st.markdown("## Versions that have scored scans")
    if not versions:
        st.caption("No model has scored a scan of the bucket yet.")
        return
    scorers = pd.DataFrame(versions).assign(agreement=lambda frame: frame["agreed"] / frame["feedback"])
    st.dataframe(
        scorers.drop(columns=["agreed"]),
        hide_index=True,
        column_config={
            "model_version": "Version",
            "first_at": st.column_config.DatetimeColumn("First answer", format="YYYY-MM-DD HH:mm"),
            "last_at": st.column_config.DatetimeColumn("Last answer", format="YYYY-MM-DD HH:mm"),
            "scans": st.column_config.NumberColumn("Scans", format="localized"),
            "threshold": st.column_config.NumberColumn("Threshold", format="%.3f"),
            "called_cancer": st.column_config.NumberColumn("Called Cancer", format="percent"),
            "refused": st.column_config.NumberColumn("Not a brain MRI", format="percent"),
            "feedback": st.column_config.NumberColumn("Readers' feedback", format="localized"),
            "agreement": st.column_config.NumberColumn("Readers agree", format="percent"),
        },
        alt="Versions that have scored scans of the bucket",
    )


def _comparison(decisions: list[Row], versions: list[Row]) -> None:
    """Two versions side by side: their figures on the frozen test, and their answers for the same scans."""
    st.markdown("## Two versions compared")
    tested = {row["version"]: json.loads(row["figures"]) for row in decisions if row["figures"]}
    names = list(dict.fromkeys([*(row["model_version"] for row in versions), *tested]))
    if len(names) < 2:
        st.caption("There is only one version so far.")
        return
    left, right = st.columns(2)
    newest, before = next(pairwise(names))
    one = left.selectbox("Compare", names, names.index(newest), key="compare one")
    other = right.selectbox("with", names, names.index(before), key="compare other")
    known = {version: tested[version] for version in dict.fromkeys((one, other)) if version in tested}
    if known:
        table(metric_charts.measured(known), "Metric")
        st.caption("On the frozen test, as the promotion criteria saw them.")
    _agreement(one, other)


def _agreement(one: str, other: str) -> None:
    rows = releases.compared(one, other)
    if not rows:
        st.caption("No scan of the bucket was scored by both.")
        return
    total, same = sum(row["scans"] for row in rows), sum(row["scans"] for row in rows if row["one"] == row["other"])
    moved = sum(row["moved"] * row["scans"] for row in rows) / total
    st.markdown(
        f"{total:,} scans scored by both: {same / total:.1%} alike; the probability moved by {moved:.3f} on average."
    )
    matrix = pd.DataFrame(rows).pivot_table(index="one", columns="other", values="scans", fill_value=0)
    table(matrix.add_prefix(f"{other}: ").astype(int), one)


def _card(report: EvaluationReport | None) -> None:
    if report is None or not report.card:
        st.info(NO_REPORT if report is None else f"The report of release {report.version} has no model card.")
        return
    page = evaluation_report.file(report.version, "report.html")
    if page:
        name = f"scanflow-{report.version}.html"
        st.download_button("The whole report, HTML", page, name, "text/html", on_click="ignore")
    st.markdown(report.card)


main()
