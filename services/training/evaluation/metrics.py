"""Figures with intervals that know that slices of one person, or copies of one picture, are one observation."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from services.training.modelling.calibration import calibration_error

Figures = dict[str, float]

REPETITIONS = 200


def figures(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float | np.ndarray, wanted: Collection[str] = ()
) -> Figures:
    """Return what is reported of probabilities against labels (1 Cancer); NaN if a class is missing.

    `threshold` is one for all scans, or one for each. `wanted` names the figures to compute; empty: all.
    """
    called = probabilities >= threshold
    hits, misses = np.sum(called & (labels == 1)), np.sum(~called & (labels == 1))
    alarms, passes = np.sum(called & (labels == 0)), np.sum(~called & (labels == 0))
    both = bool(hits + misses > 0 and alarms + passes > 0)
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)

    def of_both(measure: Callable[..., float], *more: float) -> float:
        return float(measure(labels, probabilities, *more)) if both else float("nan")

    known: dict[str, Callable[[], float]] = {
        "accuracy": lambda: float((hits + passes) / len(labels)),
        "precision": lambda: _share(hits, hits + alarms),
        "recall": lambda: _share(hits, hits + misses),
        "specificity": lambda: _share(passes, passes + alarms),
        "f1": lambda: _share(2 * hits, 2 * hits + alarms + misses),
        "auc_roc": lambda: of_both(roc_auc_score),
        "auc_pr": lambda: of_both(average_precision_score),
        "brier": lambda: float(np.mean(np.square(probabilities - labels))),
        "log_loss": lambda: float(-np.mean(np.log(np.where(labels == 1, clipped, 1 - clipped)))),
        "ece": lambda: expected_calibration_error(probabilities, labels),
        "calibration_error": lambda: calibration_error(probabilities, labels),
        "sensitivity_at_95_specificity": lambda: of_both(sensitivity_at, 0.95),
        "sensitivity_at_97_specificity": lambda: of_both(sensitivity_at, 0.97),
        "sensitivity_at_98_specificity": lambda: of_both(sensitivity_at, 0.98),
    }
    return {name: compute() for name, compute in known.items() if not wanted or name in wanted}


def with_intervals(predictions: pd.DataFrame, threshold: float, seed: int = 0, wanted: Collection[str] = ()) -> Figures:
    """Return `figures` of predictions (label, probability, group), with `_low` and `_high`: 95% by bootstrap.

    Groups are drawn with replacement, as many of each class as there are (cluster bootstrap, Davison and Hinkley). A
    column `threshold` takes the place of the argument.
    """
    labels, probabilities = predictions["label"].to_numpy(), predictions["probability"].to_numpy(float)
    thresholds = predictions.get("threshold", pd.Series(threshold, predictions.index)).to_numpy(float)
    found = figures(labels, probabilities, thresholds, wanted)
    rows = [figures(labels[r], probabilities[r], thresholds[r], wanted) for r in resampled(predictions, seed)]
    drawn = pd.DataFrame(rows)
    for name in list(found):
        values = drawn[name].dropna().to_numpy(float)
        low, high = np.quantile(values, [0.025, 0.975]).tolist() if len(values) else (float("nan"), float("nan"))
        found[f"{name}_low"], found[f"{name}_high"] = low, high
    return found


def resampled(predictions: pd.DataFrame, seed: int, repetitions: int = REPETITIONS) -> list[np.ndarray]:
    """Return the rows of as many groups, drawn with replacement within each class (a group's most frequent one)."""
    rng = np.random.default_rng(seed)
    members = list(predictions.groupby("group").indices.values())
    labels = predictions["label"].to_numpy()
    kinds = np.array([round(float(labels[rows].mean())) for rows in members])
    found = []
    for _ in range(repetitions):
        chosen = [rng.choice(np.flatnonzero(kinds == kind), np.sum(kinds == kind)) for kind in np.unique(kinds)]
        found.append(np.concatenate([members[i] for i in np.concatenate(chosen)]))
    return found


def sample_sizes(predictions: pd.DataFrame) -> Figures:
    """Return scans, groups and Kish's effective number of groups of each class."""
    found: Figures = {}
    for label, name in ((1, "tumour"), (0, "healthy")):
        sizes = predictions[predictions["label"] == label].groupby("group").size().to_numpy(float)
        found[f"{name} scans"], found[f"{name} groups"] = float(sizes.sum()), float(len(sizes))
        found[f"{name} groups, effective"] = float(sizes.sum() ** 2 / np.square(sizes).sum()) if len(sizes) else 0.0
    return found


def sensitivity_at(labels: np.ndarray, probabilities: np.ndarray, specificity: float) -> float:
    """Return the best sensitivity at a threshold that keeps at least this specificity."""
    false_positive_rate, sensitivity, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return float(sensitivity[false_positive_rate <= 1 - specificity + 1e-9].max())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the mean distance between confidence and accuracy over equally filled bins (Nguyen and O'Connor 2015).

    Even of perfect probabilities it is above 0: `expected_if_perfect` says by how much.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(probabilities[part].mean() - labels[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


def expected_if_perfect(probabilities: np.ndarray, repetitions: int = 200, seed: int = 0) -> float:
    """Return the mean `expected_calibration_error` of labels that are drawn by these very probabilities."""
    rng = np.random.default_rng(seed)
    drawn = [(rng.random(len(probabilities)) < probabilities).astype(int) for _ in range(repetitions)]
    return float(np.mean([expected_calibration_error(probabilities, labels) for labels in drawn]))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def type_accuracy(table: pd.DataFrame) -> Figures:
    """Return the accuracy of the tumour type over scans of known type, and its mean over the types (balanced).

    Only where the fit could learn every type.
    """
    known = table[(table["type"] != "") & (table["guess"] != "")]
    right = known["type"] == known["guess"]
    return {
        "accuracy": float(right.mean()),
        "balanced accuracy": float(right.groupby(known["type"]).mean().mean()),
        "scans": len(known),
    }
