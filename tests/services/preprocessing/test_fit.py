"""Statistics and axes fitted through products alone are those that NumPy and scikit-learn compute at once."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from services.preprocessing.fit import principal_axes
from shared.features import Moments, flatten, fold
from shared.preprocessing import prepare
from tests.services.preprocessing.scans import pictures


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """300 standardised scans (300, 49152)."""
    scans = flatten(np.stack([prepare(picture) for picture in pictures(300)]))
    moments = Moments.of(scans)
    return ((scans - moments.mean) / moments.deviation).astype(np.float32)


def test_axes_are_those_of_scikit_learn(vectors: np.ndarray) -> None:
    folded = fold(vectors)
    axes, variances = principal_axes(lambda block: folded.T @ (folded @ block) / len(folded), len(folded))
    exact = PCA(n_components=len(axes), svd_solver="full").fit(vectors.astype(np.float64))
    full = np.repeat(axes, 3, axis=1) / np.sqrt(3)  # as axes of the flattened image
    assert len(axes) == 100
    assert subspace_angles(full.T.astype(float), exact.components_.T).max() < 1e-3
    np.testing.assert_allclose(variances, exact.explained_variance_ * 299 / 300, rtol=1e-3)


def test_axes_are_orthonormal(vectors: np.ndarray) -> None:
    folded = fold(vectors[:120])
    axes, _ = principal_axes(lambda block: folded.T @ (folded @ block) / len(folded), len(folded))
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-5)
