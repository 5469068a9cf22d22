"""A report's figures as tables and curves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import altair as alt
import pandas as pd

from dashboard.components import COLOURS, quiet

Figures = Mapping[str, Any]
"""Values by name; `<name>_low` and `<name>_high` are a value's interval."""

_SHAPES = ["circle", "square", "triangle-up", "diamond"]
_SIZES = [170, 85, 40, 15]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]

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


def measured(groups: Mapping[str, Figures]) -> pd.DataFrame:
    """One column a group, one row a metric, as `0.973 (0.965 to 0.981)`."""
    names = [name for name in METRICS if any(name in group for group in groups.values())]
    columns = {title: [interval(group, name) for name in names] for title, group in groups.items()}
    return pd.DataFrame(columns, index=[METRICS[name] for name in names])


def listed(group: Figures) -> pd.DataFrame:
    """Any other figures of a report, one line a name: values, groups of values, or groups of those."""
    rows = dict(_rows(group))
    keys = dict.fromkeys(key for row in rows.values() for key in row if not key.endswith(("_low", "_high")))
    columns = {
        METRICS.get(key, key.replace("_", " ").capitalize()): [interval(row, key) for row in rows.values()]
        for key in keys
    }
    return pd.DataFrame(columns, index=list(rows))


def _rows(group: Figures, under: str = "") -> list[tuple[str, Figures]]:
    rows = []
    for name, value in group.items():
        title = f"{under}{name.replace('_', ' ')}"
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            rows += _rows(value, f"{title}: ")
        elif isinstance(value, dict):
            rows.append((title, value))
        elif not name.endswith(("_low", "_high")):
            ends = {f"value{end}": group.get(f"{name}{end}") for end in ("_low", "_high")}
            rows.append((title, {"value": value} | ends))
    return rows


def interval(group: Figures, name: str) -> str:
    """A figure in words."""
    value, low, high = (group.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "not measured"
    if isinstance(value, int | str):
        return f"{value:,}" if isinstance(value, int) else value
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def confusion(group: Figures) -> pd.DataFrame:
    """Of 100 scans of each kind, how many the operating threshold calls what."""
    found, passed = group["recall"], group["specificity"]
    called = {"Called Cancer": [found, 1 - passed], "Called Non-Cancer": [1 - found, passed]}
    return pd.DataFrame(called, index=["Cancer", "Non-Cancer"]).map(lambda share: f"{100 * share:.1f}")


def roc(points: list[dict[str, float]], operating: tuple[float, float]) -> alt.LayerChart:
    """Sensitivity against 1 - specificity, with the operating threshold's own pair as a dot."""
    data = (
        pd.DataFrame(points).assign(false=lambda frame: 1 - frame["specificity"]).sort_values(["false", "sensitivity"])
    )
    curve = (
        alt.Chart(data)
        .mark_line(interpolate="step-after", color=COLOURS["Non-Cancer"], strokeWidth=2.5)
        .encode(
            alt.X("false:Q", title="1 - specificity", axis=alt.Axis(format="%")),
            alt.Y("sensitivity:Q", title="Sensitivity", axis=alt.Axis(format="%")),
            order="false",
            tooltip=[alt.Tooltip(name, format=".3f") for name in ("threshold", "sensitivity", "specificity")],
        )
    )
    sensitivity, specificity = operating
    here = pd.DataFrame({"false": [1 - specificity], "sensitivity": [sensitivity], "specificity": [specificity]})
    dot = (
        alt.Chart(here)
        .mark_circle(size=110, color=COLOURS["Cancer"], opacity=1)
        .encode(
            x="false:Q",
            y="sensitivity:Q",
            tooltip=[alt.Tooltip(name, format=".3f") for name in ("sensitivity", "specificity")],
        )
    )
    chart: alt.LayerChart = (curve + dot).properties(height=340)
    return chart


def calibration(points: list[dict[str, float]]) -> alt.LayerChart:
    """The share that was Cancer among scans that were given about the same probability."""
    data, ideal = pd.DataFrame(points), pd.DataFrame({"predicted": [0, 1], "observed": [0, 1]})
    axes = alt.Chart(data).encode(
        alt.X("predicted:Q", title="Probability that the model gave", axis=alt.Axis(format="%")),
        alt.Y("observed:Q", title="Share that was Cancer", axis=alt.Axis(format="%")),
        tooltip=["count", alt.Tooltip("predicted", format=".3f"), alt.Tooltip("observed", format=".3f")],
    )
    diagonal = alt.Chart(ideal).mark_line(strokeDash=[4, 4], color=quiet()).encode(x="predicted", y="observed")
    points_drawn = axes.mark_circle(color=COLOURS["Cancer"], opacity=1).encode(alt.Size("count:Q", legend=None))
    trend = [axes.mark_line(color=COLOURS["Cancer"])] if len(points) > 2 else []
    return alt.LayerChart(layer=[diagonal, *trend, points_drawn], height=340)


def over_time(  # noqa: PLR0913 - a chart's parts
    frame: pd.DataFrame,
    value: str,
    by: str,
    title: str,
    looked_at: tuple[datetime, datetime],
    *,
    colours: Mapping[str, str] | None = None,
) -> alt.LayerChart:
    """Return a value over time: points of a shape per kind, and a line where there are three or more.

    Each kind has its own dashes too, and the later ones smaller points, which are drawn on top: so what lies on
    another is told apart. The frame has the columns `at`, `value` and `by`.
    """
    kinds = list(colours) if colours else sorted(frame[by].unique())
    scale = alt.Scale(domain=kinds, range=list(colours.values())) if colours else alt.Scale(domain=kinds)
    legend = alt.Legend(orient="top", symbolStrokeWidth=0)  # a shape so small could not be told with a dashed outline
    span = alt.Scale(domain=[moment.isoformat() for moment in looked_at])
    axis = alt.Axis(format="%d %b %H:%M", labelAngle=0, tickCount=6)
    x, y = alt.X("at:T", title=None, scale=span, axis=axis), alt.Y(f"{value}:Q", title=title)
    colour = alt.Color(f"{by}:N", scale=scale, title=None, legend=legend)
    shapes = alt.Shape(f"{by}:N", scale=alt.Scale(domain=kinds, range=_SHAPES), title=None, legend=legend)
    dashes = alt.StrokeDash(f"{by}:N", scale=alt.Scale(domain=kinds, range=_DASHES), legend=None)
    tooltip = [alt.Tooltip("at:T", format="%d %b %H:%M"), by, alt.Tooltip(f"{value}:Q", format=",.3~f")]
    sizes = alt.Size(f"{by}:N", scale=alt.Scale(domain=kinds, range=_SIZES), legend=None)
    ordered = frame.sort_values(by, key=lambda names: names.map(kinds.index))
    points = alt.Chart(ordered).mark_point(filled=True, opacity=1).encode(x, y, colour, shapes, sizes, tooltip=tooltip)
    joined = frame[frame.groupby(by)["at"].transform("size") >= 3]
    lines = alt.Chart(joined).mark_line(strokeWidth=2).encode(x, y, colour, dashes)
    chart: alt.LayerChart = (lines + points).properties(height=280)
    return chart
