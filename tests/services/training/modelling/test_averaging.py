"""The mean of several fits."""

import keras
import numpy as np
import pytest

from services.training.data.scans import inputs
from services.training.modelling.averaging import averaged
from services.training.modelling.network import network
from tests.support.training_scans import head, prepared


@pytest.fixture
def fits() -> list[keras.Model]:
    one, other = network(), network()
    rng = np.random.default_rng(0)
    for weights in other.trainable_variables:
        weights.assign(weights + rng.normal(0, 0.01, weights.shape) * np.abs(weights).mean())
    return [one, other]


def kernel(model: keras.Model, layer: str) -> np.ndarray:
    return np.asarray(model.get_layer(layer).get_weights()[0])


def test_weights_are_the_mean_and_normalisation_is_measured_again(fits):
    expected = (kernel(fits[0], "conv_head") + kernel(fits[1], "conv_head")) / 2
    for fit in fits:
        norm = fit.get_layer("bn1")
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights([gamma, beta, mean + 1, variance])
    scans = inputs(prepared(head(0), head(1)))
    found = averaged(fits, iter([scans]))
    assert kernel(found, "conv_head") == pytest.approx(expected, abs=1e-6)
    norm = found.get_layer("bn1")
    seen = keras.Model(found.input, norm.input).predict(scans, verbose=0)
    assert norm.get_weights()[2] == pytest.approx(seen.mean(axis=(0, 1, 2)), abs=1e-3)


def test_what_no_fit_changes_keeps_the_statistics_of_imagenet(fits):
    early = network().get_layer("bn0").get_weights()[2:]
    for each in fits:
        each.get_layer("bn0").set_weights(network().get_layer("bn0").get_weights())
    found = averaged(fits, iter([inputs(prepared(head(0), head(1)))]))
    for known, same in zip(early, found.get_layer("bn0").get_weights()[2:], strict=True):
        assert same == pytest.approx(known, abs=1e-6)


def test_one_fit_stays_as_it_is(fits):
    before = fits[1].get_weights()
    found = averaged(fits[1:], iter(()))
    assert all(np.array_equal(a, b) for a, b in zip(before, found.get_weights(), strict=True))
