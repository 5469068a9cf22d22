"""The shipped report: figures as JSON, one self-contained page, and the model card."""

import base64
import io
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from services.training import audit, measure
from services.training.data import inputs
from services.training.split import strata
from services.training.study import EXCLUDED, Study
from shared.ml.model import Model

TITLES = {
    "train": "Train",
    "validation": "Validation",
    "test": "Test",
    "cross_validation": "Cross-validation",
    "leave_one_source_out": "Source left out",
}
TARGETS = [
    ("accuracy on test", ("test", "accuracy"), 0.985, 1),
    ("AUC-ROC on test", ("test", "auc_roc"), 0.998, 1),
    ("specificity on test", ("test", "specificity"), 0.97, 1),
    ("expected calibration error on test", ("test", "ece"), 0.01, -1),
    ("calibration error on the source left out", ("leave_one_source_out", "ece"), 0.10, -1),
    (
        "sensitivity at 95% specificity, source left out",
        ("leave_one_source_out", "sensitivity_at_95_specificity"),
        0.90,
        1,
    ),
    (
        "sensitivity at 97% specificity on Br35H, cross-validation",
        ("per_source", "cross_validation", "br35h", "sensitivity_at_97_specificity"),
        0.98,
        1,
    ),
    ("accuracy in cross-validation", ("cross_validation", "accuracy"), 0.985, 1),
    ("AUC-ROC in cross-validation", ("cross_validation", "auc_roc"), 0.998, 1),
    ("AUROC against strangers", ("refusal", "all strangers", "auroc"), 0.995, 1),
    ("real test scans refused", ("refusal", "real test scans", "refused"), 0.02, -1),
]
"""What was aimed at: name, where its figure lies, the target, and whether more (1) or less (-1) is better."""

Drawing = tuple[str, str, Figure]


def write(model: Model, study: Study, measured: dict[str, pd.DataFrame], checks: dict, folder: Path) -> dict:
    """Write metrics.json, curves.json, reference.json, review.csv, report.html, model_card.md; answers the metrics."""
    mpl.use("Agg")
    sns.set_theme(style="whitegrid", context="paper")
    folder.mkdir(parents=True, exist_ok=True)
    metrics = measure.metrics(model, study, measured) | {"checks": checks}
    _json(folder / "metrics.json", metrics)
    _json(folder / "curves.json", {name: measure.curves(table) for name, table in measured.items() if name != "train"})
    review = audit.to_review(study.scans, study.groups)
    review.to_csv(folder / "review.csv", index=False)
    _json(folder / "reference.json", measure.reference(study, measured["test"]))
    drawings = list(_drawings(model, study, measured, metrics))
    (folder / "report.html").write_text(_page(metrics, study, review, drawings))
    (folder / "model_card.md").write_text(_card(metrics, study))
    return metrics


def _json(path: Path, content: object) -> None:
    """As strict JSON: a figure that does not exist is null."""
    text = json.dumps(content, default=float)
    path.write_text(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=1) + "\n")


def _drawings(model: Model, study: Study, measured: dict[str, pd.DataFrame], metrics: dict) -> Iterator[Drawing]:
    threshold, test = model.card.threshold, measured["test"]
    yield "Confusion", "Test, at the operating threshold.", _confusion(test, threshold)
    yield "ROC", "Dots: the operating threshold.", _roc(measured, threshold)
    yield "Calibration", "Ten equally filled bins of the calibrated probability.", _calibration(measured)
    yield (
        "Robustness",
        "Test scans changed as if the file had been, then prepared again.",
        _robustness(metrics["robustness"]),
    )
    pairs = _pairs(study)
    if pairs:
        yield "Pairs round the threshold of the audit", "Each column is a pair with its correlation.", pairs
    yield "Sizes and groups", "What the files and the groups of copies look like.", _sizes(study)
    images = study.scans.images[study.parts == "test"]
    wrong = np.flatnonzero((test["probability"] >= threshold) != (test["label"] == 1))
    found = np.flatnonzero((test["probability"] >= threshold) & (test["label"] == 1))
    drawn = np.random.default_rng(1).choice(found, min(16, len(found)), replace=False)
    galleries = [
        ("Failures", "Every error on test, or the first 24: label, then probability.", wrong),
        ("Heat maps", "Sixteen tumours of test that were found, drawn at random.", drawn),
    ]
    for title, text, rows in galleries:
        if len(rows):
            yield title, text, _gallery(model, images, test, rows)


def _confusion(test: pd.DataFrame, threshold: float) -> Figure:
    figure, axes = plt.subplots(figsize=(3.4, 3))
    counts = confusion_matrix(test["label"], test["probability"] >= threshold)
    names = ["Non-Cancer", "Cancer"]
    sns.heatmap(counts, annot=True, fmt="d", cbar=False, cmap="Blues", xticklabels=names, yticklabels=names, ax=axes)
    axes.set(xlabel="Called", ylabel="Labelled")
    return figure


def _roc(measured: dict[str, pd.DataFrame], threshold: float) -> Figure:
    figure, axes = plt.subplots(figsize=(4.6, 4))
    for name, table in measured.items():
        points = pd.DataFrame(measure.curves(table)["roc"])
        (line,) = axes.plot(1 - points["specificity"], points["sensitivity"], label=TITLES[name])
        called, tumour = table["probability"] >= threshold, table["label"] == 1
        axes.plot(called[~tumour].mean(), called[tumour].mean(), "o", color=line.get_color())
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 0.3), ylim=(0.7, 1.01))
    axes.legend(loc="lower right")
    return figure


def _calibration(measured: dict[str, pd.DataFrame]) -> Figure:
    figure, axes = plt.subplots(figsize=(4.6, 4))
    axes.plot([0, 1], [0, 1], "--", color="grey")
    for name, table in measured.items():
        points = pd.DataFrame(measure.curves(table)["calibration"])
        axes.plot(points["predicted"], points["observed"], "o-", label=TITLES[name])
    axes.set(xlabel="Probability that the model gave", ylabel="Share that was Cancer")
    axes.legend()
    return figure


def _robustness(table: dict[str, dict]) -> Figure:
    figure, axes = plt.subplots(figsize=(6, 3.6))
    frame = pd.DataFrame(table).T.iloc[::-1]
    ends = np.abs(frame[["accuracy_low", "accuracy_high"]].to_numpy(float).T - frame["accuracy"].to_numpy(float))
    axes.errorbar(frame["accuracy"], frame.index, xerr=ends, fmt="o")
    axes.axvline(0.97, ls="--", color="grey")
    axes.set(xlabel="Accuracy with 95% interval; the dashed line is the aim", xlim=(0.85, 1.005))
    return figure


def _pairs(study: Study) -> Figure | None:
    first, second, likeness = audit.similar_pairs(study.scans.images, audit.NEAR - 0.03)
    if not len(first):
        return None
    near = np.argsort(np.abs(likeness - audit.NEAR))[:400]
    chosen = np.sort(np.random.default_rng(0).choice(near, min(12, len(near)), replace=False))
    chosen = chosen[np.argsort(likeness[chosen])]
    figure, axes = plt.subplots(2, len(chosen), figsize=(11, 2.4), squeeze=False)
    for column, pair in zip(axes.T, chosen, strict=True):
        for cell, row in zip(column, (first[pair], second[pair]), strict=True):
            cell.imshow(study.scans.images[row], cmap="gray")
            cell.axis("off")
        column[0].set_title(f"{likeness[pair]:.3f}", fontsize=8)
    return figure


def _sizes(study: Study) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    table = study.scans.table.assign(group=study.groups, tumour=study.scans.table["label"].map({0: "no", 1: "yes"}))
    sns.scatterplot(table, x="width", y="height", hue="source", style="tumour", s=14, ax=left)
    sizes = table.groupby(["tumour", "group"]).size().rename("scans").reset_index()
    sns.histplot(sizes, x="scans", hue="tumour", log_scale=(True, True), bins=20, ax=right)
    right.set(xlabel="Scans in a group", ylabel="Groups")
    return figure


def _gallery(model: Model, images: np.ndarray, test: pd.DataFrame, rows: np.ndarray) -> Figure:
    shown = rows[:24]
    figure, axes = plt.subplots(-(-len(shown) // 8), 8, figsize=(11, 1.55 * -(-len(shown) // 8)), squeeze=False)
    for cell in axes.ravel():
        cell.axis("off")
    for cell, row in zip(axes.ravel(), shown, strict=False):
        heat = cv2.resize(np.maximum(model.predict(inputs(images[row : row + 1])[0]).heat_map, 0), (128, 128))
        cell.imshow(images[row], cmap="gray")
        cell.imshow(heat, cmap="inferno", alpha=0.45 * heat / max(heat.max(), 1e-6))
        cell.set_title(f"{test['kind'].iloc[row]}\n{test['probability'].iloc[row]:.3f}", fontsize=6)
    return figure


def _page(metrics: dict, study: Study, review: pd.DataFrame, drawings: list[Drawing]) -> str:
    """The report as one page without anything to fetch."""
    parts = [
        f"<h1>Scanflow, release {escape(metrics['model_version'])}</h1>",
        "<p>For research use, not a medical device. Figures are of the graph that is shipped, on groups of copies that "
        "training never saw; intervals are 95%, by bootstrap over groups.</p>",
        "<h2>Aims</h2>" + _aims(metrics).to_html(index=False),
        "<h2>Metrics</h2>" + _sections(metrics).to_html(),
        "<h2>Per class and source, test</h2>" + _frame(metrics["per_class"]),
        "<h2>Sensitivity per source of tumours</h2><p>Specificity is of all scans without a tumour in the part.</p>"
        + "".join(f"<h3>{TITLES[name]}</h3>" + _frame(found) for name, found in metrics["per_source"].items()),
        "<h2>Data and split</h2>" + _counts(study).to_html() + _frame({"": metrics["audit"]}) + _audit(study, review),
        "<h2>Shortcuts</h2><p>Balanced accuracy on test of classifiers that cannot see a tumour.</p>"
        + _frame({"balanced accuracy": metrics["shortcuts"]}),
        "<h2>With the excluded scans, under their published label</h2>" + _frame(metrics["with_excluded_scans"]),
        "<h2>Robustness</h2>" + _frame(metrics["robustness"]),
        "<h2>What is not a brain MRI</h2>" + _frame(metrics["refusal"]),
        "<h2>Explanation</h2><p>Whether the heat map's peak lies in a drawn lesion.</p>"
        + _frame({"share": metrics["explanation"]}),
        "<h2>Tumour type, where there is a tumour</h2>" + _frame({"test": metrics["tumour_type"]}),
        "<h2>Checks and pace of training</h2>" + _frame({"value": metrics["checks"]}),
        *(f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{_picture(figure)}" for title, text, figure in drawings),
    ]
    style = (
        "body{font:15px/1.5 system-ui;max-width:1100px;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    )
    cells = "td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}img{max-width:100%}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Scanflow model</title><style>{style}{cells}</style>"
        + "".join(parts)
    )


def _aims(metrics: dict) -> pd.DataFrame:
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


def _sections(metrics: dict) -> pd.DataFrame:
    def cell(section: str, name: str) -> str:
        found = metrics[section]
        return f"{found[name]:.3f} ({found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f})"

    names = [name for name in metrics["test"] if not name.endswith(("_low", "_high"))]
    present = [section for section in TITLES if section in metrics]
    return pd.DataFrame({TITLES[section]: [cell(section, name) for name in names] for section in present}, index=names)


def _frame(table: dict[str, dict]) -> str:
    return pd.DataFrame(table).T.to_html(float_format=lambda value: f"{value:.4g}")


def _counts(study: Study) -> pd.DataFrame:
    table = study.scans.table.assign(part=study.parts, group=study.groups)
    table["class"] = strata(table)
    return table.groupby(["class", "part"])["group"].agg(scans="size", groups="nunique").unstack()


def _audit(study: Study, review: pd.DataFrame) -> str:
    to_review = review.groupby("why").agg(scans=("scan_id", "size"), groups=("group", "nunique"))
    reasons = pd.Series(json.loads(EXCLUDED.read_text())).value_counts().rename("scans").to_frame()
    kinds = study.scans.table.groupby(["label", "source", "format", "mode"]).size().rename("scans").to_frame()
    return (
        "<h3>Formats</h3>"
        + kinds.to_html()
        + "<h3>To be looked at (review.csv lists them)</h3><p>Kept: such scans will arrive.</p>"
        + to_review.to_html()
        + "<h3>Excluded, with the reason</h3><p>After a look at them, the model's errors on an earlier test among what "
        "prompted it.</p>" + reasons.to_html()
    )


def _picture(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'


def _card(metrics: dict, study: Study) -> str:
    aims = "\n".join(f"| {' | '.join(row)} |" for row in _aims(metrics).itertuples(index=False))
    sections = _sections(metrics)
    rows = "\n".join(
        f"| {name} | {' | '.join(row)} |" for name, row in zip(sections.index, sections.to_numpy(), strict=True)
    )
    return CARD.format(
        version=metrics["model_version"],
        threshold=metrics["threshold"],
        scans=len(study.scans),
        groups=len(np.unique(study.groups)),
        excluded=len(study.excluded),
        aims=aims,
        heads=" | ".join(sections.columns),
        rule="---|" * len(sections.columns),
        rows=rows,
    )


CARD = (Path(__file__).parent / "model_card.md").read_text()
