"""From logits to probabilities that mean something, and the threshold at which a scan is called Cancer."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


def platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and offset with which `sigmoid(slope * logit + offset)` fits best (Platt 1999, with his softened targets).

    The softened targets keep a perfectly separated validation set from claiming certainty.
    """
    positive, negative = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * logits + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - targets * z))

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(slope), float(offset)


def calibrated(logits: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Probabilities of Cancer."""
    return expit(slope * logits + offset)


def operating_threshold(probabilities: np.ndarray, labels: np.ndarray, specificity: float = 0.97) -> float:
    """The probability that so many of the scans without a tumour stay below, or 0.5 where that already suffices.

    Never under 0.5: a scan called Cancer is one that is more likely so than not.
    """
    return float(max(0.5, np.quantile(probabilities[labels == 0], specificity, method="higher") + 1e-6))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over equally filled bins (Nguyen and O'Connor 2015)."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(probabilities[part].mean() - labels[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))
