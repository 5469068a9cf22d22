"""The report's drawings, as Matplotlib figures."""

from collections.abc import Iterator
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from services.training.data.copies import NEAR, similar_pairs
from services.training.data.scans import inputs
from services.training.evaluation import measurements
from services.training.experiment import Experiment
from shared.ml.model import Model

TITLES = {"leave_one_source_out": "Sources left out", "test": "Test", "train": "Train"}
"""Sections of the report by their key in metrics.json; the first is what a new hospital may expect."""

Drawing = tuple[str, str, Figure]
"""Title, what it shows in a sentence, and the drawing."""


def drawings(
    model: Model, experiment: Experiment, measured: dict[str, pd.DataFrame], metrics: dict[str, Any]
) -> Iterator[Drawing]:
    """Yield every drawing of the report."""
    threshold, test = model.card.threshold, measured["test"]
    yield "Confusion", "Test, at the operating threshold.", _confusion(test, threshold)
    yield "ROC", "Dots: the operating threshold.", _roc(measured, threshold)
    yield "Calibration", "Ten equally filled bins of the calibrated probability.", _calibration(measured)
    yield (
        "Robustness",
        "Test scans changed as if the file had been, then prepared again.",
        _robustness(metrics["robustness"]),
    )
    pairs = _pairs(experiment)
    if pairs:
        yield "Pairs round the threshold of likeness", "Each column is a pair with its correlation.", pairs
    yield "Sizes and groups", "What the files and the groups of copies look like.", _sizes(experiment)
    images = experiment.scans.images[experiment.split == "test"]
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
        points = pd.DataFrame(measurements.curves(table)["roc"])
        (line,) = axes.plot(1 - points["specificity"], points["sensitivity"], label=TITLES[name])
        called, tumour = table["probability"] >= table.get("threshold", threshold), table["label"] == 1
        axes.plot(called[~tumour].mean(), called[tumour].mean(), "o", color=line.get_color())
    axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 0.3), ylim=(0.4, 1.01))
    axes.legend(loc="lower right")
    return figure


def _calibration(measured: dict[str, pd.DataFrame]) -> Figure:
    figure, axes = plt.subplots(figsize=(4.6, 4))
    axes.plot([0, 1], [0, 1], "--", color="grey")
    for name, table in measured.items():
        points = pd.DataFrame(measurements.curves(table)["calibration"])
        axes.plot(points["predicted"], points["observed"], "o-", label=TITLES[name])
    axes.set(xlabel="Probability that the model gave", ylabel="Share that was Cancer")
    axes.legend()
    return figure


def _robustness(table: dict[str, dict[str, float]]) -> Figure:
    figure, axes = plt.subplots(figsize=(6, 3.6))
    frame = pd.DataFrame(table).T.iloc[::-1]
    ends = np.abs(frame[["accuracy_low", "accuracy_high"]].to_numpy(float).T - frame["accuracy"].to_numpy(float))
    axes.errorbar(frame["accuracy"], frame.index, xerr=ends, fmt="o")
    axes.axvline(0.97, ls="--", color="grey")
    axes.set(xlabel="Accuracy with 95% interval; the dashed line is the aim", xlim=(0.85, 1.005))
    return figure


def _pairs(experiment: Experiment) -> Figure | None:
    first, second, likeness = similar_pairs(experiment.scans.images, NEAR - 0.03)
    if not len(first):
        return None
    near = np.argsort(np.abs(likeness - NEAR))[:400]
    chosen = np.sort(np.random.default_rng(0).choice(near, min(12, len(near)), replace=False))
    chosen = chosen[np.argsort(likeness[chosen])]
    figure, axes = plt.subplots(2, len(chosen), figsize=(11, 2.4), squeeze=False)
    for column, pair in zip(axes.T, chosen, strict=True):
        for cell, row in zip(column, (first[pair], second[pair]), strict=True):
            cell.imshow(experiment.scans.images[row], cmap="gray")
            cell.axis("off")
        column[0].set_title(f"{likeness[pair]:.3f}", fontsize=8)
    return figure


def _sizes(experiment: Experiment) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    table = experiment.scans.table.assign(
        group=experiment.groups, tumour=experiment.scans.table["label"].map({0: "no", 1: "yes"})
    )
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
