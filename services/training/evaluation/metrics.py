"""Figures with intervals that know that copies of one head are one observation."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from services.training.calibrate import expected_calibration_error

Figures = dict[str, float]

REPETITIONS = 400


def figures(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> Figures:
    """What the project reports of calibrated probabilities against labels (1 Cancer); nan where a class is missing."""
    called = probabilities >= threshold
    hits, misses = np.sum(called & (labels == 1)), np.sum(~called & (labels == 1))
    alarms, passes = np.sum(called & (labels == 0)), np.sum(~called & (labels == 0))
    both = hits + misses > 0 and alarms + passes > 0
    return {
        "accuracy": float((hits + passes) / len(labels)),
        "precision": _share(hits, hits + alarms),
        "recall": _share(hits, hits + misses),
        "specificity": _share(passes, passes + alarms),
        "f1": _share(2 * hits, 2 * hits + alarms + misses),
        "auc_roc": float(roc_auc_score(labels, probabilities)) if both else float("nan"),
        "auc_pr": float(average_precision_score(labels, probabilities)) if both else float("nan"),
        "ece": expected_calibration_error(probabilities, labels),
        "sensitivity_at_95_specificity": sensitivity_at(labels, probabilities, 0.95) if both else float("nan"),
        "sensitivity_at_97_specificity": sensitivity_at(labels, probabilities, 0.97) if both else float("nan"),
        "sensitivity_at_98_specificity": sensitivity_at(labels, probabilities, 0.98) if both else float("nan"),
    }


def with_intervals(predictions: pd.DataFrame, threshold: float, seed: int = 0) -> Figures:
    """`figures` of predictions (label, probability, group), with `_low` and `_high`: 95% by bootstrap over groups."""
    found = figures(predictions["label"].to_numpy(), predictions["probability"].to_numpy(), threshold)
    drawn = pd.DataFrame(list(_resampled(predictions, lambda labels, p: figures(labels, p, threshold), seed)))
    for name in list(found):
        found[f"{name}_low"], found[f"{name}_high"] = np.nanquantile(
            drawn[name].to_numpy(float), [0.025, 0.975]
        ).tolist()
    return found


def sensitivity_at(labels: np.ndarray, probabilities: np.ndarray, specificity: float) -> float:
    """Best sensitivity at a threshold that keeps at least this specificity."""
    false_positive_rate, sensitivity, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return float(sensitivity[false_positive_rate <= 1 - specificity + 1e-9].max())


def _resampled(
    predictions: pd.DataFrame, statistic: Callable[[np.ndarray, np.ndarray], Figures], seed: int
) -> list[Figures]:
    """The statistic of as many groups, drawn with replacement, many times (cluster bootstrap, Davison and Hinkley)."""
    rng = np.random.default_rng(seed)
    labels, probabilities = predictions["label"].to_numpy(), predictions["probability"].to_numpy()
    members = list(predictions.groupby("group").indices.values())
    found = []
    for _ in range(REPETITIONS):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        found.append(statistic(labels[rows], probabilities[rows]))
    return found


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
