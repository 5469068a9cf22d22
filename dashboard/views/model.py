"""Model: what is served, how good it is, and what moving the threshold would do."""

from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import api, findings, queries
from dashboard.panels import COLOURS, QUIET, asking

SPLITS = {
    "validation": "Validation",
    "test": "Test",
    "cross_validation": "Cross-validation",
    "leave_one_source_out": "Left-out source",
}
METRICS = {
    "auc_roc": "AUC, ROC",
    "auc_pr": "AUC, precision-recall",
    "accuracy": "Accuracy",
    "recall": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "ece": "Calibration error",
}


def main() -> None:
    """The page."""
    served: dict[str, Any] = {}
    with asking("model"):
        served = api.model()
        st.markdown(f"Served now: **{served['version']}**, which says Cancer from {served['threshold']:.1%} on.")
    figures, threshold, versions, card = st.tabs(["Figures", "Threshold", "Versions", "Card and report"])
    metrics = findings.read("metrics.json") or served.get("metrics", {})
    curves = {name: curve for name, curve in findings.read("curves.json").items() if curve.get("roc")}
    with figures:
        _figures(metrics, curves)
    with threshold:
        _threshold(curves, served.get("threshold", 0.5))
    with versions, asking("versions"):
        _versions(queries.versions())
    with card:
        _card()


def _figures(metrics: dict[str, Any], curves: dict[str, Any]) -> None:
    splits = {key: title for key, title in SPLITS.items() if key in metrics}
    if not splits:
        st.info("The report of the released model has no figures yet: `make report` writes them.")
        return
    st.markdown("#### On groups of scans that training never saw")
    st.table(_measured({title: metrics[key] for key, title in splits.items()}))
    st.caption("In brackets: 95% confidence interval, by bootstrap over groups of near-identical scans.")
    if curves:
        name = _split(curves, "figures")
        _curves(curves[name])
        if name in metrics:
            _confusion(metrics[name])
    for name, group in metrics.items():
        if name not in SPLITS and isinstance(group, dict) and group:
            with st.expander(name.replace("_", " ").capitalize()):
                st.table(_further(group))


def _measured(groups: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One column a group, one row a metric, as `0.973 (0.965 to 0.981)`."""
    names = [name for name in METRICS if any(name in group for group in groups.values())]
    columns = {title: [_interval(group, name) for name in names] for title, group in groups.items()}
    return pd.DataFrame(columns, index=[METRICS[name] for name in names])


def _further(group: dict[str, Any]) -> pd.DataFrame:
    """Any other figures of the report: one line a name."""
    rows = {
        name: value
        if isinstance(value, dict)
        else {"value": value, "value_low": group.get(f"{name}_low"), "value_high": group.get(f"{name}_high")}
        for name, value in group.items()
        if not name.endswith(("_low", "_high"))
    }
    keys = dict.fromkeys(key for row in rows.values() for key in row if not key.endswith(("_low", "_high")))
    columns = {
        METRICS.get(key, key.replace("_", " ").capitalize()): [_interval(row, key) for row in rows.values()]
        for key in keys
    }
    return pd.DataFrame(columns, index=[name.replace("_", " ") for name in rows])


def _confusion(figures: dict[str, Any]) -> None:
    """Rates of each class at the operating threshold."""
    st.markdown("#### Of 100 scans of each kind, at the operating threshold")
    found, passed = figures["recall"], figures["specificity"]
    called = {"Called Cancer": [found, 1 - passed], "Called Non-Cancer": [1 - found, passed]}
    st.table(pd.DataFrame(called, index=["Cancer", "Non-Cancer"]).map(lambda share: f"{100 * share:.1f}"))


def _interval(group: dict[str, Any], name: str) -> str:
    value, low, high = (group.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "not measured"
    if isinstance(value, int | str):
        return f"{value:,}" if isinstance(value, int) else value
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _split(curves: dict[str, Any], key: str) -> str:
    """Which scans the curves are of."""
    order = sorted(curves, key=lambda name: name != "test")
    title = st.segmented_control(
        "Measured on",
        order,
        default=order[0],
        required=True,
        key=f"split {key}",
        format_func=lambda s: SPLITS.get(s, s),
    )
    return title


def _curves(curve: dict[str, Any]) -> None:
    roc, calibration = st.columns(2, gap="large")
    with roc:
        st.markdown("#### ROC")
        st.altair_chart(_roc(curve["roc"]), alt="Sensitivity against the share of healthy scans called Cancer")
    with calibration:
        st.markdown("#### Calibration")
        if curve.get("calibration"):
            chart = _calibration(curve["calibration"])
            st.altair_chart(chart, alt="Share of Cancer among scans, against the probability that the model gave")
        else:
            st.caption("The report has no calibration curve for these scans.")


def _roc(points: list[dict[str, float]]) -> alt.Chart:
    data = (
        pd.DataFrame(points).assign(false=lambda frame: 1 - frame["specificity"]).sort_values(["false", "sensitivity"])
    )
    return (
        alt.Chart(data)
        .mark_line(interpolate="step-after", color=COLOURS["Non-Cancer"], strokeWidth=2.5)
        .encode(
            alt.X("false:Q", title="1 - specificity", axis=alt.Axis(format="%")),
            alt.Y("sensitivity:Q", title="Sensitivity", axis=alt.Axis(format="%")),
            order="false",
            tooltip=[alt.Tooltip(name, format=".3f") for name in ("threshold", "sensitivity", "specificity")],
        )
        .properties(height=340)
    )


def _calibration(points: list[dict[str, float]]) -> alt.LayerChart:
    data, ideal = pd.DataFrame(points), pd.DataFrame({"predicted": [0, 1], "observed": [0, 1]})
    axes = alt.Chart(data).encode(
        alt.X("predicted:Q", title="Probability that the model gave", axis=alt.Axis(format="%")),
        alt.Y("observed:Q", title="Share that was Cancer", axis=alt.Axis(format="%")),
        tooltip=["count", alt.Tooltip("predicted", format=".3f"), alt.Tooltip("observed", format=".3f")],
    )
    diagonal = alt.Chart(ideal).mark_line(strokeDash=[4, 4], color=QUIET).encode(x="predicted", y="observed")
    points_drawn = axes.mark_circle(color=COLOURS["Cancer"], opacity=1).encode(alt.Size("count:Q", legend=None))
    return (diagonal + axes.mark_line(color=COLOURS["Cancer"]) + points_drawn).properties(height=340)


def _threshold(curves: dict[str, Any], served: float) -> None:
    """What a reader would gain and lose by another operating threshold."""
    if not curves:
        st.info("The report of the released model has no ROC curve yet: `make report` writes it.")
        return
    curve = curves[_split(curves, "threshold")]
    left, right = st.columns([2, 3], gap="large")
    with left:
        threshold = st.slider("Call it Cancer from", 0.0, 1.0, round(served, 2), 0.01, key="threshold")
        prevalence = st.slider(
            "Prevalence in %", 0.1, 99.0, 10.0, 0.1, key="prevalence", help="Share of those scanned who have a tumour"
        )
    sensitivity, specificity = findings.operating_point(curve["roc"], threshold)
    positive, negative = findings.predictive_values(sensitivity, specificity, prevalence / 100)
    with right:
        values = {"Sensitivity": sensitivity, "Specificity": specificity, "PPV": positive, "NPV": negative}
        for column, (name, value) in zip(st.columns(4), values.items(), strict=True):
            column.metric(name, f"{value:.1%}", border=True)
        _thousand(sensitivity, specificity, prevalence / 100)


def _thousand(sensitivity: float, specificity: float, prevalence: float) -> None:
    """The confusion matrix of a thousand people."""
    ill, well = 1000 * prevalence, 1000 * (1 - prevalence)
    st.markdown("Of 1,000 scanned:")
    st.table(
        pd.DataFrame(
            {
                "Called Cancer": [f"{ill * sensitivity:.0f}", f"{well * (1 - specificity):.0f}"],
                "Called Non-Cancer": [f"{ill * (1 - sensitivity):.0f}", f"{well * specificity:.0f}"],
            },
            index=["have a tumour", "have none"],
        )
    )


def _versions(versions: list[queries.Row]) -> None:
    if not versions:
        st.info("No model has scored a scan of the bucket yet.")
        return
    table = pd.DataFrame(versions).assign(agreement=lambda frame: frame["agreed"] / frame["opinions"])
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        table.drop(columns=["agreed"]),
        hide_index=True,
        column_config={
            "model_version": "Version",
            "first_at": st.column_config.DatetimeColumn("First answer", format="YYYY-MM-DD HH:mm"),
            "last_at": st.column_config.DatetimeColumn("Last answer", format="YYYY-MM-DD HH:mm"),
            "scans": st.column_config.NumberColumn("Scans", format="localized"),
            "threshold": st.column_config.NumberColumn("Threshold", format="%.3f"),
            "called_cancer": st.column_config.NumberColumn("Called Cancer", format="percent"),
            "refused": st.column_config.NumberColumn("Not a brain MRI", format="percent"),
            "opinions": st.column_config.NumberColumn("Readers' opinions", format="localized"),
            "agreement": share,
        },
        alt="Versions that have scored scans of the bucket",
    )
    st.caption("Why a version was released or kept back lies beside it in the models bucket, as `decision.json`.")
    names = [row["model_version"] for row in versions]
    if len(names) < 2:
        st.caption("Only one version has scored scans, so there is none to compare it with.")
        return
    _comparison(names)


def _comparison(names: list[str]) -> None:
    left, right = st.columns(2)
    newest, before = next(pairwise(names))
    one = left.selectbox("Compare", names, names.index(newest), key="compare one")
    other = right.selectbox("with", names, names.index(before), key="compare other")
    rows = queries.compared(one, other)
    if not rows:
        st.caption("No scan was scored by both.")
        return
    total, same = sum(row["scans"] for row in rows), sum(row["scans"] for row in rows if row["one"] == row["other"])
    moved = sum(row["moved"] * row["scans"] for row in rows) / total
    st.markdown(
        f"{total:,} scans scored by both: {same / total:.1%} alike; the probability moved by {moved:.3f} on average."
    )
    matrix = pd.DataFrame(rows).pivot_table(index="one", columns="other", values="scans", fill_value=0)
    st.table(matrix.rename_axis(index=one, columns=other).astype(int))


def _card() -> None:
    card, report = findings.text("model_card.md"), findings.FOLDER / "report.html"
    if not card:
        st.info("The released model ships no card yet: `make report` writes it.")
        return
    if report.is_file():
        content = report.read_text()
        st.download_button("The whole report, HTML", content, "scanflow-report.html", "text/html", on_click="ignore")
        if st.toggle("Show it here, with its heat maps", key="report"):
            st.iframe(content, height=900, alt="Report of the released model")
    st.markdown(card)


main()
