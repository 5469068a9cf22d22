"""A site's calibration, operating threshold and band of doubt, fitted on few scans of few persons."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit

from services.training.modelling.calibration import MISCOVERAGE, balancing_weights
from shared.ml.site_calibration import LEAST_PROBABILITY

SPECIFICITY = 0.95
"""Share of the site's healthy scans that the threshold leaves below itself."""
SLOPE_STD, OFFSET_STD = 0.7, 2.0
"""Standard deviations of the normal priors of log(slope), round 0, and of the offset: with few scans the release's own
calibration holds, with many the site's scans decide."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Parameters:
    """What makes a site's answers of a release's probabilities."""

    slope: float
    offset: float
    threshold: float
    uncertain_from: float
    uncertain_to: float


def fit(released: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Parameters:
    """Return the parameters for a release's probabilities (n,) of scans with labels (1 Cancer) in groups of persons."""
    weights = balancing_weights(labels, groups.astype(str))
    slope, offset = _platt(_logits(released), labels, weights, len(np.unique(groups)))
    probabilities = calibrated(released, slope, offset)
    healthy, tumours = (conformal(probabilities, groups, labels == label) for label in (0, 1))
    threshold = min(healthy.quantile(SPECIFICITY), float(probabilities[labels == 0].max())) + 1e-6
    low, high = tumours.quantile_below(MISCOVERAGE), healthy.quantile(1 - MISCOVERAGE)
    band = sorted((low, high))
    return Parameters(
        slope=slope,
        offset=offset,
        threshold=threshold,
        # As of a release: near the threshold an answer is in doubt, wherever the classes meet.
        uncertain_from=max(min(band[0], threshold), 0.0),
        uncertain_to=min(max(band[1], threshold), 1.0),
    )


def _platt(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, persons: int) -> tuple[float, float]:
    """Return slope (above 0) and offset of greatest posterior probability (Platt 1999, with priors).

    Weights sum to 1: the likelihood counts as that of as many scans as there are persons.
    """

    def loss(parameters: np.ndarray) -> float:
        z = np.exp(parameters[0]) * logits + parameters[1]
        fit = persons * np.sum(weights * (np.logaddexp(0, z) - labels * z))
        return float(fit + np.sum(np.square(parameters / (SLOPE_STD, OFFSET_STD))) / 2)

    log_slope, offset = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(log_slope)), float(offset)


def calibrated(released: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Return the site's probabilities of the release's, as `SiteCalibration.probability` does."""
    return np.asarray(expit(slope * _logits(released) + offset))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)))


@dataclass(frozen=True, slots=True)
class _Conformal:
    """Quantiles that hold for a scan of the next person.

    Every person weighs 1 / (persons + 1), shared by its scans; the rest is the next one's, who may be anywhere
    (hierarchical conformal prediction, Lee, Barber and Willett, arXiv 2306.06342).
    """

    values: np.ndarray
    """In order."""
    reached: np.ndarray
    """Weight up to each value, itself included."""

    def quantile(self, share: float) -> float:
        """Return the value that this share of the weight does not exceed; 1 if the known values cannot tell."""
        place = int(np.searchsorted(self.reached, share - 1e-9))
        return float(self.values[place]) if place < len(self.values) else 1.0

    def quantile_below(self, share: float) -> float:
        """Return the value that at most this share lies below; 0 if the known values cannot tell."""
        mirrored = _Conformal(1 - self.values[::-1], self.reached[-1] - np.append(0, self.reached[:-1])[::-1])
        return 1 - mirrored.quantile(1 - share)


def conformal(probabilities: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> _Conformal:
    """Return the quantiles of the probabilities in these rows."""
    values, persons = probabilities[rows], groups[rows]
    names, place, counts = np.unique(persons, return_inverse=True, return_counts=True)
    weights = (1 / counts / (len(names) + 1))[place]
    order = np.argsort(values)
    return _Conformal(values[order], np.cumsum(weights[order]))


def cross_fitted(released: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> pd.DataFrame | None:
    """Return probability, threshold, uncertain_from and uncertain_to of each scan, fitted on other persons' scans.

    None if all scans of a class are of one person.
    """
    parts = _folds(labels, groups)
    if parts.max() == 0:
        return None
    found = pd.DataFrame(index=range(len(labels)), columns=["probability", *_COLUMNS], dtype=float)
    for part in np.unique(parts):
        rest, mine = parts != part, parts == part
        known = fit(released[rest], labels[rest], groups[rest])
        found.loc[mine, "probability"] = calibrated(released[mine], known.slope, known.offset)
        for name in _COLUMNS:
            found.loc[mine, name] = getattr(known, name)
    return found


_COLUMNS = ("threshold", "uncertain_from", "uncertain_to")


def _folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return a fold for each scan: persons are dealt in turn, class by class, so that no fold lacks one in its rest."""
    parts = np.zeros(len(labels), int)
    names = np.unique(groups)
    with_tumour = np.array([bool(labels[groups == name].max()) for name in names])
    folds = min(FOLDS, *(int(np.sum(with_tumour == kind)) for kind in (True, False)))
    if folds < 2:
        return parts
    for kind in (True, False):
        for place, name in enumerate(names[with_tumour == kind]):
            parts[groups == name] = place % folds
    return parts
