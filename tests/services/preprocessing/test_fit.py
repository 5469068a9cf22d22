"""Statistics and axes fitted through products alone are those that NumPy and scikit-learn compute at once."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, KernelPCA

from services.preprocessing.fit import principal_axes
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.features import flatten
from shared.ml.pca import Moments, fold
from tests.services.preprocessing.scans import pictures


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """150 standardised scans (150, 49152)."""
    return standardised(np.stack([prepare(picture) for picture in pictures(150)]))


def test_axes_are_those_of_scikit_learn(vectors: np.ndarray) -> None:
    folded = fold(vectors)
    axes, variances = principal_axes(lambda block: folded.T @ (folded @ block) / len(folded), len(folded))
    exact = PCA(n_components=len(axes), svd_solver="full").fit(vectors.astype(np.float64))
    full = np.repeat(axes, 3, axis=1) / np.sqrt(3)  # as axes of the flattened image
    assert len(axes) == 50
    assert subspace_angles(full.T.astype(float), exact.components_.T).max() < 1e-3
    np.testing.assert_allclose(variances, exact.explained_variance_ * 149 / 150, rtol=1e-3)


@pytest.mark.drill
def test_all_256_axes_of_real_scans_are_those_of_scikit_learn(data: Path) -> None:
    """More scans than the passes have vectors, so that the method cannot span them all."""
    files = sorted((data / "kaggle").rglob("*.jpg"))
    chosen = files[:: len(files) // 1400][:1400]
    folded = fold(standardised(np.stack([prepare(decode(file.read_bytes()).pages[0]) for file in chosen])))
    axes, _ = principal_axes(lambda block: folded.T @ (folded @ block) / len(folded), len(folded))
    exact = KernelPCA(256, eigen_solver="dense").fit(folded.astype(np.float64))  # linear: PCA by way of the scans
    assert subspace_angles(axes.T.astype(float), folded.T.astype(float) @ exact.eigenvectors_).max() < 1e-3


def test_axes_are_orthonormal(vectors: np.ndarray) -> None:
    folded = fold(vectors[:120])
    axes, _ = principal_axes(lambda block: folded.T @ (folded @ block) / len(folded), len(folded))
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-5)


def standardised(scans: np.ndarray) -> np.ndarray:
    """Prepared scans as vectors (n, 49152) with every pixel at mean 0 and deviation 1."""
    vectors = flatten(scans)
    moments = Moments.of(vectors)
    return ((vectors - moments.mean) / moments.std).astype(np.float32)
