"""The last layer fitted on with corrections, as near to the served one as home's scans ask.

Labels of home's scans hold a layer back little: the network has learnt them, so that its loss there is next to nothing
and stays so while the ranking of new scans goes. What holds are the served answers. Their change over home's scans has
a prior and a bound, and directions in which home does not vary are free to learn the site (answers kept instead of
labels: Li and Hoiem, arXiv 1606.09282).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize

PRIOR = 0.3
"""Standard deviation, before any correction is seen, of the change of a home scan's log-odds."""
MOST_MOVED = 0.5
"""Root mean square of that change, however many corrections there are."""
_RIDGE = 1e-3
"""Of the mean variance of a feature over home, added to each: what home never shows is not free of cost."""
_STRONGEST = 1e9


@dataclass(frozen=True)
class LastLayer:
    """Weights and bias from an embedding to the log-odds of Cancer."""

    weights: np.ndarray
    """float (d,)."""
    bias: float

    def log_odds(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the log-odds of embeddings (n, d)."""
        return np.asarray(embeddings @ self.weights + self.bias)


@dataclass(frozen=True)
class Corrected:
    """Scans to learn."""

    embeddings: np.ndarray
    """float (n, d)."""
    labels: np.ndarray
    """1 Cancer, 0 Non-Cancer."""
    weights: np.ndarray


def fitted_on(
    start: LastLayer, home: np.ndarray, corrected: Corrected, prior: float = PRIOR, most_moved: float = MOST_MOVED
) -> LastLayer:
    """Return the layer that explains the corrections best while it stays near `start` on home's embeddings (m, d).

    The weighted cross-entropy of the corrections, and the mean squared change of home's log-odds over twice the prior's
    variance, are least together; a stronger prior is taken where that change would have a root mean square of more than
    `most_moved`.
    """
    factor = _factor(_with_one(home))
    before, signs = start.log_odds(corrected.embeddings), 2.0 * corrected.labels - 1
    inputs = np.linalg.solve(factor, _with_one(corrected.embeddings).T).T

    def moved(log_strength: float) -> np.ndarray:
        return _least(inputs, signs, corrected.weights, before, math.exp(log_strength))

    def too_far(log_strength: float) -> float:
        return float(np.linalg.norm(moved(log_strength))) - most_moved

    weakest = math.log(prior**-2)
    strength = weakest if too_far(weakest) <= 0 else brentq(too_far, weakest, math.log(_STRONGEST), xtol=1e-3)
    change = np.linalg.solve(factor.T, moved(strength))
    return LastLayer(start.weights + change[:-1], start.bias + float(change[-1]))


def _with_one(embeddings: np.ndarray) -> np.ndarray:
    return np.column_stack([embeddings.astype(float), np.ones(len(embeddings))])


def _factor(home: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor L for which |L' change| is the root mean square of what a change does to home."""
    moments = home.T @ home / len(home)
    return np.linalg.cholesky(moments + _RIDGE * np.diag(moments).mean() * np.eye(len(moments)))


def _least(
    inputs: np.ndarray, signs: np.ndarray, weights: np.ndarray, before: np.ndarray, strength: float
) -> np.ndarray:
    """Return the change with the least weighted cross-entropy and `strength` / 2 times its square."""

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (before + inputs @ change)
        slopes = -weights * signs * np.exp(-np.logaddexp(0, margins))
        value = weights @ np.logaddexp(0, -margins) + strength / 2 * change @ change
        return float(value), slopes @ inputs + strength * change

    return np.asarray(minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x)
