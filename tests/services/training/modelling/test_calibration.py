import numpy as np
import pytest

from services.training.evaluation.metrics import expected_calibration_error
from services.training.modelling import calibration


def test_calibration_undoes_overconfidence():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-truth))).astype(int)
    logits = 4 * truth + 1
    raw = calibration.calibrated(logits, 1, 0)
    better = calibration.calibrated(logits, *calibration.platt(logits, labels))
    assert expected_calibration_error(raw, labels) > 0.08
    assert expected_calibration_error(better, labels) < 0.04


@pytest.mark.parametrize("tumours", [100, 2000])
def test_probabilities_assume_as_many_tumours_as_healthy_heads_whatever_the_data_hold(tumours):
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(1, 1, tumours), rng.normal(-1, 1, 500)])
    labels = np.repeat([1, 0], [tumours, 500])
    slope, offset = calibration.platt(logits, labels)
    assert -offset / slope == pytest.approx(0, abs=0.15)


def test_a_large_source_weighs_no_more_than_a_small_one():
    labels, sources = np.array([0] * 110 + [1] * 10), np.array(["large"] * 100 + ["small"] * 10 + ["large"] * 10)
    weights = calibration.balancing_weights(labels, sources)
    assert weights[:100].sum() == pytest.approx(weights[100:110].sum()) == pytest.approx(0.25)


@pytest.mark.parametrize("stripped", [False, True])
def test_the_threshold_keeps_the_specificity_of_all_and_of_each_source(stripped):
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.uniform(0, 0.4, 1000), rng.uniform(0, 0.9, 50)])
    sources, alike = np.array(["easy"] * 1000 + ["hard"] * 50), np.full(1050, stripped)
    threshold = calibration.operating_threshold(probabilities, sources, alike)
    assert np.mean(probabilities[1000:] < threshold) >= 0.9
    assert np.mean([np.mean(probabilities[sources == name] < threshold) for name in ("easy", "hard")]) >= 0.95
    assert calibration.operating_threshold(probabilities / 10, sources, alike) < 0.1


def test_stripped_heads_do_not_pay_for_heads_with_a_skull():
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.uniform(0, 0.1, 100), np.linspace(0, 0.8, 100), np.linspace(0, 0.8, 100)])
    sources = np.repeat(["a", "b", "c"], 100)
    threshold = calibration.operating_threshold(probabilities, sources, sources == "a")
    assert np.mean(probabilities[100:] < threshold) >= 0.95
    calling_more = calibration.operating_threshold(probabilities, sources, np.zeros(300, bool))
    assert calling_more < threshold and np.mean(probabilities[100:] < calling_more) < 0.95


def test_a_stripped_source_keeps_its_own_specificity():
    probabilities = np.concatenate([np.linspace(0, 0.9, 100), np.linspace(0, 0.2, 100)])
    sources = np.repeat(["stripped", "skull"], 100)
    assert calibration.operating_threshold(probabilities, sources, sources == "stripped") >= 0.8


def test_a_tenth_of_each_class_lies_beyond_the_band_of_doubt():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)
    probabilities = np.concatenate([rng.beta(2, 4, 2000), rng.beta(4, 2, 2000)])
    low, high = calibration.band_of_doubt(probabilities, labels, np.ones(4000))
    assert np.mean(probabilities[labels == 1] < low) == pytest.approx(0.1, abs=0.02)
    assert np.mean(probabilities[labels == 0] > high) == pytest.approx(0.1, abs=0.02)


def test_types_that_are_wrong_in_certainty_become_less_certain():
    logits, types = np.tile([8.0, 0.0, 0.0], (100, 1)), np.repeat([0, 1], 50)
    assert calibration.type_temperature(logits, types) > 3
    assert calibration.type_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1
