"""The last layer fitted on with corrections, as near to the served one as home's scans ask.

Home's scans are learnt again beside the corrections, and hold the layer twice: by their labels, and by what the served
layer says of them. A change is measured by what it does to home's log-odds, so that directions in which home does not
vary are free to learn the site (answers kept beside labels: Li and Hoiem, arXiv 1606.09282).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

HOME_WEIGHT = 2000.0
"""What all of home's labels weigh together."""
CORRECTION_WEIGHT = 0.5
"""Of a correction, times its weight in `services.training.data.corrections`: a hundred weigh a tenth of home."""
KEPT_WEIGHT = 200.0
"""Of half the mean squared change of home's log-odds: what the served answers weigh beside the labels."""
_RIDGE = 1e-3
"""Of the mean variance of a feature over home, added to each: what home never shows is not free of cost."""


@dataclass(frozen=True)
class LastLayer:
    """Weights and bias from an embedding to the log-odds of Cancer."""

    weights: np.ndarray
    """float (d,)."""
    bias: float

    def log_odds(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the log-odds of embeddings (n, d)."""
        return np.asarray(embeddings @ self.weights + self.bias)

    def scaled(self, slope: float, offset: float) -> "LastLayer":
        """Return the layer whose log-odds are `slope * these + offset`."""
        return LastLayer(slope * self.weights, slope * self.bias + offset)


@dataclass(frozen=True)
class Labelled:
    """Scans to learn."""

    embeddings: np.ndarray
    """float (n, d)."""
    labels: np.ndarray
    """1 Cancer, 0 Non-Cancer."""
    weights: np.ndarray

    def joined(self, other: "Labelled") -> "Labelled":
        """Return these scans and others."""
        return Labelled(
            np.concatenate([self.embeddings, other.embeddings]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.weights, other.weights]),
        )


def fitted_on(start: LastLayer, home: Labelled, corrected: Labelled, kept: float = KEPT_WEIGHT) -> LastLayer:
    """Return the layer with the least cross-entropy on home and the corrections that stays near `start` at home.

    Home's weights are relative to each other, those of the corrections are as in `services.training.data.corrections`;
    `kept` is what half the mean squared change of home's log-odds weighs.
    """
    at_home = Labelled(home.embeddings, home.labels, home.weights * (HOME_WEIGHT / home.weights.sum()))
    learnt = at_home.joined(Labelled(corrected.embeddings, corrected.labels, CORRECTION_WEIGHT * corrected.weights))
    factor = _factor(_with_one(home.embeddings))
    before, signs = start.log_odds(learnt.embeddings), 2.0 * learnt.labels - 1
    inputs = np.linalg.solve(factor, _with_one(learnt.embeddings).T).T

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (before + inputs @ change)
        slopes = -learnt.weights * signs * np.exp(-np.logaddexp(0, margins))
        value = learnt.weights @ np.logaddexp(0, -margins) + kept / 2 * change @ change
        return float(value), slopes @ inputs + kept * change

    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    change = np.linalg.solve(factor.T, found)
    return LastLayer(start.weights + change[:-1], start.bias + float(change[-1]))


def _with_one(embeddings: np.ndarray) -> np.ndarray:
    return np.column_stack([embeddings.astype(float), np.ones(len(embeddings))])


def _factor(home: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor L for which |L' change| is the root mean square of what a change does to home."""
    moments = home.T @ home / len(home)
    return np.linalg.cholesky(moments + _RIDGE * np.diag(moments).mean() * np.eye(len(moments)))
