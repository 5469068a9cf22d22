"""The shipped report: figures as JSON, one self-contained page, pictures as files, and the model card."""

import base64
import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from services.training.data import quality
from services.training.data.quality import cross_tables
from services.training.data.split import strata
from services.training.evaluation import left_out, measurements
from services.training.evaluation.drawings import TITLES, drawings
from services.training.experiment import Experiment, excluded_reasons, fits_of
from shared.ml.model import Model

TARGETS = [
    ("AUC, sources left out", ("leave_one_source_out", "auc_roc"), 0.93, 1),
    (
        "sensitivity at 95% specificity, sources left out",
        ("leave_one_source_out", "sensitivity_at_95_specificity"),
        0.75,
        1,
    ),
    ("specificity as called, sources left out", ("leave_one_source_out", "specificity"), 0.95, 1),
    ("accuracy on test", ("test", "accuracy"), 0.985, 1),
    ("AUC on test", ("test", "auc_roc"), 0.998, 1),
    ("real test scans refused", ("refusal", "real test scans", "refused"), 0.02, -1),
    ("OOD images refused", ("refusal", "all OOD images", "refused"), 0.98, 1),
]
"""What was aimed at: name, where its figure lies, the target, and whether more (1) or less (-1) is better.

The first is the primary one; nothing corrects the others for their number.
"""

SHOWN_AS_FILES = ("Failures", "Heat maps")
"""Drawings that the dashboard shows: beside the page they are files, listed in pictures.json."""


def write(
    model: Model,
    experiment: Experiment,
    measured: dict[str, pd.DataFrame],
    checks: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write metrics.json, curves.json, reference.json, review.csv, report.html, pictures.json with its files, and
    model_card.md; return the metrics.

    `checks` are figures measured when the release was exported, among them `refusal_left_out` if there are such.
    """
    mpl.use("Agg")
    sns.set_theme(style="whitegrid", context="paper")
    folder.mkdir(parents=True, exist_ok=True)
    refusal = {"refusal_left_out": checks["refusal_left_out"]} if "refusal_left_out" in checks else {}
    plain = {name: value for name, value in checks.items() if name != "refusal_left_out"}
    metrics = measurements.metrics(model, experiment, measured) | {"checks": plain} | refusal
    curves = {name: measurements.curves(table) for name, table in measured.items() if name != "train"}
    review = quality.to_review(experiment.scans, experiment.groups)
    _json(folder / "metrics.json", metrics)
    _json(folder / "curves.json", curves)
    _json(folder / "reference.json", measurements.reference(experiment, measured["test"]))
    review.to_csv(folder / "review.csv", index=False)
    drawn = [(title, text, _png(figure)) for title, text, figure in drawings(model, experiment, measured, metrics)]
    _pictures(folder, drawn)
    (folder / "report.html").write_text(_page(metrics, experiment, review, drawn))
    (folder / "model_card.md").write_text(_card(metrics, experiment))
    return metrics


def _json(path: Path, content: object) -> None:
    """As strict JSON: a figure that does not exist is null."""
    text = json.dumps(content, default=float)
    path.write_text(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=1) + "\n")


def _pictures(folder: Path, drawn: list[tuple[str, str, bytes]]) -> None:
    listed = []
    for title, meaning, content in drawn:
        if title in SHOWN_AS_FILES:
            name = re.sub(r"\W+", "-", title.lower()) + ".png"
            (folder / name).write_bytes(content)
            listed.append({"title": title, "meaning": meaning, "file": name})
    _json(folder / "pictures.json", listed)


def _page(
    metrics: dict[str, Any], experiment: Experiment, review: pd.DataFrame, drawn: list[tuple[str, str, bytes]]
) -> str:
    """The report as one page without anything to fetch."""
    parts = [
        f"<h1>Scanflow, release {escape(metrics['model_version'])}</h1>",
        "<p>For research use, not a medical device. <b>Sources left out</b> are of other fits of the same recipe, each "
        "on sources that it never saw, with calibration and threshold from the other blocks: what another hospital may "
        "expect. <b>Test</b> is of the graph that is shipped, on people that its fit never saw, of sources that it "
        "did. Intervals are 95%, by bootstrap over people and groups of copies.</p>",
        "<h2>Aims</h2>" + _aims(metrics).to_html(index=False),
        "<h2>Metrics</h2>" + _sections(metrics).to_html(),
        "<h2>Per class and source, test</h2>" + _frame(metrics["per_class"]),
        "<h2>Sensitivity per source of tumours</h2><p>Specificity is of all scans without a tumour in the part.</p>"
        + "".join(f"<h3>{TITLES[name]}</h3>" + _frame(found) for name, found in metrics["per_source"].items()),
        _left_out(metrics),
        "<h2>Data and split</h2>"
        + _counts(experiment).to_html()
        + _frame({"": metrics["audit"]})
        + _audit(experiment, review),
        "<h2>Shortcuts</h2><p>Balanced accuracy on test of classifiers that cannot see a tumour.</p>"
        + _frame({"balanced accuracy": metrics["shortcuts"]}),
        "<h2>With the excluded scans, under their published label</h2>" + _frame(metrics["with_excluded_scans"]),
        "<h2>Robustness</h2>" + _frame(metrics["robustness"]),
        "<h2>What is not a brain MRI</h2>" + _frame(metrics["refusal"]) + _frame(metrics.get("refusal_left_out", {})),
        "<h2>Explanation</h2><p>Whether the heat map's peak lies in a drawn lesion.</p>"
        + _frame({"share": metrics["explanation"]}),
        "<h2>Tumour type, where there is a tumour</h2><p>Of sources left out only where the fit saw every type.</p>"
        + _frame({title: metrics[name] for title, name in TYPE_SECTIONS.items() if name in metrics}),
        "<h2>Checks and pace of training</h2>" + _frame({"value": metrics["checks"]}),
        *(f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{_picture(content)}" for title, text, content in drawn),
    ]
    style = (
        "body{font:15px/1.5 system-ui;max-width:1100px;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    )
    cells = "td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}img{max-width:100%}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Scanflow model</title><style>{style}{cells}</style>"
        + "".join(parts)
    )


def _left_out(metrics: dict[str, Any]) -> str:
    """What is known of sources that no fit saw; nothing if `make crossvalidate` was not run."""
    if "blocks" not in metrics:
        return "<h2>Sources left out</h2><p>Not measured: make crossvalidate does.</p>"
    names = ("auc_roc", "sensitivity_at_95_specificity", "recall", "specificity")
    blocks = {name: {key: found[key] for key in names} for name, found in metrics["blocks"].items()}
    return (
        "<h2>Sources left out</h2><h3>Primary figure</h3>"
        + _frame({"": metrics["primary"]})
        + "<h3>Blocks</h3><p>At the threshold of the other blocks.</p>"
        + _frame(blocks)
        + "<h3>Healthy scans, by source</h3>"
        + _frame(metrics["healthy_sources"])
        + "<h3>Lesions that are no tumour</h3>"
        + _frame(metrics["other_lesions"])
        + "<h3>Tumours found, by source and sequence</h3>"
        + _frame(metrics["tumour_sequences"])
        + "<h3>Stripped heads within another's skull</h3><p>What a scanner sends has its skull. AUC, and the share of "
        "the tumours above 95% of every source's healthy heads, in all and by sequence.</p>"
        + _frame(metrics["within_skulls"])
        + "<h3>Risk against coverage</h3>"
        + _frame(metrics["risk_coverage"])
    )


def _aims(metrics: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, path, target, better in TARGETS:
        value = metrics
        for step in path:
            value = value.get(step, {}) if isinstance(value, dict) else value
        if isinstance(value, dict):
            rows.append((name, "not measured", f"{target:g}", "open"))
        else:
            rows.append((name, f"{value:.4f}", f"{target:g}", "met" if better * value >= better * target else "missed"))
    lowest = min(metrics["robustness"], key=lambda change: metrics["robustness"][change]["accuracy"])
    worst = metrics["robustness"][lowest]["accuracy"]
    rows.append(
        (f"lowest accuracy under a change ({lowest})", f"{worst:.4f}", "0.97", "met" if worst >= 0.97 else "missed")
    )
    return pd.DataFrame(rows, columns=["Aim", "Measured", "Target", ""])


def _sections(metrics: dict[str, Any]) -> pd.DataFrame:
    def cell(section: str, name: str) -> str:
        found = metrics[section]
        return f"{found[name]:.3f} ({found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f})"

    names = [name for name in metrics["test"] if not name.endswith(("_low", "_high"))]
    present = [section for section in TITLES if section in metrics]
    return pd.DataFrame({TITLES[section]: [cell(section, name) for name in names] for section in present}, index=names)


def _frame(table: dict[str, dict[str, Any]]) -> str:
    return pd.DataFrame(table).T.to_html(float_format=lambda value: f"{value:.4g}")


def _counts(experiment: Experiment) -> pd.DataFrame:
    table = experiment.scans.table.assign(part=experiment.split, group=experiment.groups)
    table["class"] = strata(table)
    return table.groupby(["class", "part"])["group"].agg(scans="size", groups="nunique").unstack()


def _audit(experiment: Experiment, review: pd.DataFrame) -> str:
    to_review = review.groupby("why").agg(scans=("scan_id", "size"), groups=("group", "nunique"))
    reasons = pd.Series(excluded_reasons()).value_counts().rename("scans").to_frame()
    kinds = experiment.scans.table.groupby(["label", "source", "format", "mode"]).size().rename("scans").to_frame()
    crossed = "".join(
        f"<h3>Label by {name}</h3>{found.to_html()}" for name, found in cross_tables(experiment.scans).items()
    )
    return (
        crossed
        + "<h3>Formats</h3>"
        + kinds.to_html()
        + "<h3>To be looked at (review.csv lists them)</h3><p>Kept: such scans will arrive.</p>"
        + to_review.to_html()
        + "<h3>Excluded, with the reason</h3><p>43 after a look at them that an earlier model's errors prompted; the "
        "others by one reading of the healthy scans, train and test alike, that knew neither source, split nor a "
        "model's prediction. A computer read, not a radiologist (docs/experiments.md).</p>" + reasons.to_html()
    )


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return content.getvalue()


def _picture(content: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _card(metrics: dict[str, Any], experiment: Experiment) -> str:
    aims = "\n".join(f"| {' | '.join(row)} |" for row in _aims(metrics).itertuples(index=False))
    sections = _sections(metrics)
    rows = "\n".join(
        f"| {name} | {' | '.join(row)} |" for name, row in zip(sections.index, sections.to_numpy(), strict=True)
    )
    return CARD.format(
        version=metrics["model_version"],
        threshold=metrics["threshold"],
        fit=_fit(metrics, experiment),
        tries=TRIES,
        scans=len(experiment.scans),
        groups=len(np.unique(experiment.groups)),
        excluded=len(experiment.excluded),
        excluded_test=int(np.sum(experiment.excluded_split == "test")),
        aims=aims,
        heads=" | ".join(sections.columns),
        rule="---|" * len(sections.columns),
        rows=rows,
        blocks=_blocks_of_card(metrics),
    )


def _fit(metrics: dict[str, Any], experiment: Experiment) -> str:
    if before := metrics["from_release"]:
        return f"Made from release {before}, whose network learnt as follows."
    epochs, fits = metrics["checks"].get("epochs", 0), metrics["checks"].get("fits", 1)
    text = f"{epochs} epochs after a first fit without block B, from whose weights it went on."
    if fits > 1:
        text += f" Its weights are the mean of {fits} such fits."
    if unseen := left_out.known_runs(experiment):
        fewest = min(fits_of(Path(run)) for run in unseen.values())
        by = f"by the mean of {fewest} fits from one start" if fewest > 1 else "by single fits"
        text += f" Left-out sources are judged {by}."
    return text


def _blocks_of_card(metrics: dict[str, Any]) -> str:
    if "blocks" not in metrics:
        return "No source was left out for this release: `make crossvalidate` does."
    lines = [
        "| block | AUC | sensitivity at 95% specificity | as called: sensitivity, specificity |",
        "|---|---|---|---|",
    ]
    for name, found in metrics["blocks"].items():
        called = f"{found['recall']:.3f}, {found['specificity']:.3f}"
        lines.append(f"| {name} | {found['auc_roc']:.3f} | {found['sensitivity_at_95_specificity']:.3f} | {called} |")
    (title, value), *_ = metrics["primary"].items()
    return "\n".join(lines) + f"\n\nPrimary figure, fixed beforehand: {title}, {value:.3f}."


TYPE_SECTIONS = {"test": "tumour_type", "sources left out": "tumour_type_left_out"}

TRIES = 8
"""Recipes that were measured on the left-out sources before a release made now is shipped: the first one's, gentle
epochs after it, two fits averaged, a rate that stays, the same for longer, answers of the strongest cells and of views
in other sizes, and skulls put on stripped heads (docs/experiments.md)."""

CARD = (Path(__file__).parent / "model_card.md").read_text()
