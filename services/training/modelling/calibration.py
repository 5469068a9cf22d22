"""From logits to probabilities that mean something, and the threshold at which a scan is called Cancer."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

MISCOVERAGE = 0.1
"""Share of each class that may lie outside its side of the band of doubt."""


@dataclass(frozen=True)
class Scale:
    """From a network's logits to what is said of a scan."""

    slope: float
    offset: float
    threshold: float
    """The probability from which a scan is called Cancer."""
    doubt: tuple[float, float]
    """Probabilities between which an answer is uncertain."""


def scale(logits: np.ndarray, labels: np.ndarray, sources: np.ndarray, stripped: np.ndarray) -> Scale:
    """Return the scale that predictions on scans give which the network's training did not see, (n,) each.

    Both classes weigh alike, and all sources. `stripped` is a mask of the heads without a skull.
    """
    weights, healthy = balancing_weights(labels, sources), labels == 0
    slope, offset = platt(logits, labels, weights)
    probabilities = calibrated(logits, slope, offset)
    threshold = operating_threshold(probabilities[healthy], sources[healthy], stripped[healthy])
    low, high = band_of_doubt(probabilities, labels, weights)
    # Near the threshold an answer is in doubt, wherever the classes meet.
    return Scale(slope, offset, threshold, (min(low, threshold), max(high, threshold)))


def balancing_weights(labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return weights (n,) of sum 1 with which both classes weigh alike, and within a class every source."""
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        mine = np.unique(sources[labels == label])
        for source in mine:
            rows = (labels == label) & (sources == source)
            weights[rows] = 1 / len(mine) / rows.sum()
    return weights / weights.sum()


def platt(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Return slope and offset with which `sigmoid(slope * logit + offset)` fits best (Platt 1999).

    His softened targets keep a perfectly separated set from claiming certainty. Without `weights` both classes weigh
    alike: the probabilities then assume that half of the scans show a tumour, whatever the share in the data.
    """
    if weights is None:
        weights = balancing_weights(labels, np.zeros(len(labels)))
    positive, negative = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    return least_cross_entropy(logits, targets, np.array([1.0, 0.0]), weights)


def least_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, start: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Return slope and offset, sought from `start`, with which `sigmoid(slope * logit + offset)` fits targets best.

    `targets` are probabilities (n,).
    """

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * logits + parameters[1]
        return float(np.average(np.logaddexp(0, z) - targets * z, weights=weights))

    slope, offset = minimize(loss, start, method="Nelder-Mead").x
    return float(slope), float(offset)


def calibrated(logits: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Return probabilities of Cancer."""
    return np.asarray(expit(slope * logits + offset))


def type_temperature(logits: np.ndarray, types: np.ndarray) -> float:
    """Return the temperature, 1 to 5, that fits type logits (n, k) best to known types (n,), all types alike."""
    if len(types) == 0:
        return 1.0
    weights = balancing_weights(np.zeros(len(types)), types)

    def loss(temperature: float) -> float:
        likely = log_softmax(logits / temperature, axis=1)[np.arange(len(types)), types]
        return float(-np.average(likely, weights=weights))

    return float(minimize_scalar(loss, bounds=(1, 5), method="bounded").x)


def operating_threshold(
    probabilities: np.ndarray, sources: np.ndarray, stripped: np.ndarray, together: float = 0.95, each: float = 0.9
) -> float:
    """Return the least probability below which enough healthy scans stay: of heads with a skull, and of each source.

    `probabilities`, `sources` and `stripped` (a mask) are of healthy scans that the network's training did not see.
    Every source weighs alike in `together`, however many scans it has. Stripped heads, of which hardly any is called,
    count in it only where there are no others: what a scanner sends has its skull.
    """
    counted = ~stripped if not stripped.all() else stripped
    names, place, counts = np.unique(sources[counted], return_inverse=True, return_counts=True)
    order = np.argsort(probabilities[counted])
    reached = np.cumsum((1 / counts / len(names))[place][order])
    pooled = probabilities[counted][order][np.searchsorted(reached, together - 1e-9).clip(max=len(order) - 1)]
    alone = [np.quantile(probabilities[sources == name], each, method="higher") for name in np.unique(sources)]
    return float(max(pooled, *alone) + 1e-6)


def band_of_doubt(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the probabilities between which a class-conditional conformal predictor names both classes, or neither.

    90% of either class's unseen scans lie on its own side of the band's far end (Vovk, arXiv 1209.2673).
    """
    low = _quantile(probabilities[labels == 1], weights[labels == 1], MISCOVERAGE)
    high = _quantile(probabilities[labels == 0], weights[labels == 0], 1 - MISCOVERAGE)
    return min(low, high), max(low, high)


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, share - 1e-9).clip(max=len(values) - 1)])


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the root of the debiased squared calibration error (Kumar et al., arXiv 1909.10155), 0 if below nothing.

    Equally filled bins; from each bin's squared gap the variance of its observed share is taken off, so that a
    perfectly calibrated model scores about 0 and not what chance leaves in a bin.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order) // 2)) if len(part) > 1]
    squared = 0.0
    for part in parts:
        observed = labels[part].mean()
        gap = (probabilities[part].mean() - observed) ** 2 - observed * (1 - observed) / (len(part) - 1)
        squared += len(part) * gap
    return float(np.sqrt(max(squared / len(order), 0.0)))
