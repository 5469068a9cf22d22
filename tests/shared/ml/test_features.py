"""Features: pixel statistics, mergeable moments, and the basis that online and batch share."""

import numpy as np
import pytest
from scipy import stats

from shared.imaging.preprocessing import prepare
from shared.ml.features import FEATURE_VERSION, compute_features, feature_version, flatten, pixel_statistics
from shared.ml.pca import Basis, Moments, fold

RANDOM = np.random.default_rng(7)


@pytest.fixture
def tensors():
    return (RANDOM.integers(0, 256, (12, 128, 128, 3)) / 255).astype(np.float32)


def test_pixel_statistics_agree_with_scipy(tensors):
    pixels = tensors[0].astype(float).ravel() ** 2
    answer = pixel_statistics(pixels.reshape(128, 128, 3))
    assert answer["mean"] == pytest.approx(pixels.mean())
    assert answer["std"] == pytest.approx(pixels.std())
    assert answer["skewness"] == pytest.approx(stats.skew(pixels))
    assert answer["kurtosis"] == pytest.approx(stats.kurtosis(pixels, fisher=False))
    assert answer["standardised_quantiles"] == pytest.approx(
        np.quantile(stats.zscore(pixels), (0.05, 0.25, 0.5, 0.75, 0.95))
    )


def test_pixel_statistics_of_one_grey_level_are_finite():
    answer = pixel_statistics(np.full((128, 128, 3), 0.5, np.float32))
    assert answer == {"mean": 0.5, "std": 0, "skewness": 0, "kurtosis": 0, "standardised_quantiles": [0] * 5}


def test_flatten_keeps_row_channel_order():
    tensor = np.arange(128 * 128 * 3, dtype=np.float32).reshape(128, 128, 3)
    assert (flatten(tensor) == np.arange(49152)).all()


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_moments_of_parts_add_up_to_the_moments_of_the_whole(tensors, cut):
    vectors = flatten(tensors)
    merged = Moments.of(vectors[:cut]) + Moments.of(vectors[cut:])
    np.testing.assert_allclose(merged.mean, vectors.mean(axis=0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(merged.std, vectors.std(axis=0, dtype=float), rtol=1e-12)


def test_moments_stay_exact_far_from_zero():
    """The textbook sum of squares loses every digit here."""
    vectors = RANDOM.standard_normal((1000, 4)) + 1e9
    merged = Moments.of(vectors[:10])
    for start in range(10, 1000, 90):
        merged = merged + Moments.of(vectors[start : start + 90])
    np.testing.assert_allclose(merged.std, (vectors - 1e9).std(axis=0), rtol=1e-6)


def test_a_pixel_that_never_varies_standardises_to_zero(tensors):
    vectors = flatten(tensors)
    vectors[:, 7] = 0.1
    moments = Moments.of(vectors)
    basis = _basis(moments)
    standardised = basis.standardise(vectors)
    assert (np.abs(standardised[:, 7]) < 1e-6).all()
    np.testing.assert_allclose(np.delete(standardised, 7, axis=1).std(axis=0), 1, rtol=1e-4)


def test_a_basis_survives_its_bytes(tensors):
    basis = _basis(Moments.of(flatten(tensors)))
    copy = Basis.from_bytes(basis.to_bytes())
    assert (copy.version, copy.scans, copy.preprocessing_version) == (basis.version, 12, "1")
    assert (copy.project(tensors[0]) == basis.project(tensors[0])).all()


def test_fold_keeps_lengths_and_angles_of_prepared_scans():
    scans = [prepare(RANDOM.integers(0, 256, (200, 180), np.uint8)) for _ in range(4)]
    vectors = flatten(np.stack(scans)).astype(float)
    np.testing.assert_allclose(fold(vectors) @ fold(vectors).T, vectors @ vectors.T, rtol=1e-6)


def test_of_no_scans_there_are_no_components(tensors):
    assert _basis(Moments.of(flatten(tensors))).project(tensors[:0]).shape == (0, 3)


def test_many_scans_are_projected_as_one_by_one(tensors):
    basis = _basis(Moments.of(flatten(tensors)))
    alone = [basis.project(tensor) for tensor in tensors]
    np.testing.assert_allclose(basis.project(tensors), alone, rtol=1e-4, atol=1e-4)


def test_describe_without_a_basis_has_no_principal_components(tensors):
    assert compute_features(tensors[0], np.ones(2, np.float32), None)["principal_components"] == []


def test_feature_version_names_all_that_computes_a_row():
    assert feature_version("m1", None) == f"{FEATURE_VERSION}+m1"
    assert feature_version("m1", "b1") == f"{FEATURE_VERSION}+m1+b1"


def _basis(moments):
    axes = np.linalg.qr(RANDOM.standard_normal((16384, 3)))[0].T
    return Basis(
        version="test",
        mean=moments.mean.astype(np.float32),
        std=moments.std.astype(np.float32),
        axes=axes.astype(np.float32),
        explained=np.array([0.5, 0.3, 0.1], np.float32),
        scans=moments.count,
        preprocessing_version="1",
    )
