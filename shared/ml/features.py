"""Features of prepared scans: pixel statistics, the model's embedding and principal components."""

import math
from typing import TypedDict

import numpy as np

FEATURE_VERSION = "1"
"""Changes whenever a formula here answers differently."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class PixelStatistics(TypedDict):
    """Columns of a features row that need nothing but the scan's own pixels."""

    mean: float
    std: float
    skewness: float
    kurtosis: float
    standardised_quantiles: list[float]


def flatten(tensors: np.ndarray) -> np.ndarray:
    """Prepared scans float32 (..., 128, 128, 3) as vectors (..., 49152)."""
    return tensors.reshape(*tensors.shape[:-3], math.prod(tensors.shape[-3:]))


def pixel_statistics(tensor: np.ndarray) -> PixelStatistics:
    """Moments and quantiles of a prepared scan, float32 (128, 128, 3) in [0, 1].

    Skewness and kurtosis are the third and fourth standardised moments (a normal distribution has 0 and 3); for an
    image of one grey level they and the quantiles are 0.
    """
    pixels = flatten(tensor).astype(np.float64)
    mean, std = pixels.mean(), pixels.std()
    standardised = (pixels - mean) / (std or 1)
    squares = standardised * standardised
    return {
        "mean": float(mean),
        "std": float(std),
        "skewness": float((squares * standardised).mean()),
        "kurtosis": float((squares * squares).mean()),
        "standardised_quantiles": np.quantile(standardised, _QUANTILES).tolist(),
    }


class Features(PixelStatistics):
    """Columns of a features row that a scan's pixels, the released model and the basis give."""

    embedding: list[float]
    principal_components: list[float]


def compute_features(tensor: np.ndarray, embedding: np.ndarray, components: np.ndarray | None) -> Features:
    """Features of one prepared scan (128, 128, 3), with the released model's embedding (d,).

    Online and in batches alike. `components` (k,) are what the basis projects it to; None where no basis is fitted.
    """
    return {
        **pixel_statistics(tensor),
        "embedding": embedding.tolist(),
        "principal_components": [] if components is None else components.tolist(),
    }


def feature_version(model_version: str, basis_version: str | None) -> str:
    """Version of everything that computes a features row: the formulas, the released model and the basis, if any."""
    return "+".join(filter(None, (FEATURE_VERSION, model_version, basis_version)))
