import numpy as np
import pandas as pd
import pytest

from services.training import evaluate, robustness
from services.training.calibrate import calibrated, expected_calibration_error, operating_threshold, platt


def test_figures_of_a_small_table_are_those_of_hand_arithmetic():
    found = evaluate.figures(np.array([1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.2, 0.7, 0.1]), 0.5)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["auc_roc"] == pytest.approx(5 / 6)


def test_sensitivity_is_read_at_no_less_than_the_specificity():
    labels, probabilities = (
        np.array([0] * 20 + [1] * 4),
        np.concatenate([np.linspace(0, 0.95, 20), [0.92, 0.99, 0.5, 1]]),
    )
    assert evaluate.sensitivity_at(labels, probabilities, 0.95) == pytest.approx(3 / 4)
    assert evaluate.sensitivity_at(labels, probabilities, 1.0) == pytest.approx(2 / 4)


def test_copies_of_one_head_widen_the_interval():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 40), 10)
    right = np.repeat(rng.random(40) < 0.8, 10)
    table = pd.DataFrame({"label": labels, "probability": np.where(right, labels, 1 - labels).astype(float)})
    by_head = evaluate.with_intervals(table.assign(group=np.repeat(np.arange(40), 10)), 0.5)
    by_scan = evaluate.with_intervals(table.assign(group=np.arange(400)), 0.5)
    assert by_head["accuracy_low"] <= by_head["accuracy"] <= by_head["accuracy_high"]
    assert by_head["accuracy_high"] - by_head["accuracy_low"] > 2 * (by_scan["accuracy_high"] - by_scan["accuracy_low"])


def test_calibration_undoes_overconfidence():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-truth))).astype(int)
    logits = 4 * truth + 1
    raw = calibrated(logits, 1, 0)
    better = calibrated(logits, *platt(logits, labels))
    assert expected_calibration_error(raw, labels) > 0.08
    assert expected_calibration_error(better, labels) < 0.03


def test_the_threshold_keeps_the_specificity_and_is_at_least_a_half():
    probabilities, labels = np.linspace(0, 1, 100), np.zeros(100, int)
    threshold = operating_threshold(probabilities, labels)
    assert np.mean(probabilities < threshold) >= 0.97
    assert operating_threshold(probabilities / 10, labels) == 0.5


@pytest.mark.parametrize("name", robustness.CHANGES)
def test_a_changed_scan_is_still_an_input(name):
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128), dtype=np.uint8)
    after = robustness.changed(image, robustness.CHANGES[name])
    assert after.shape == (1, 128, 128)
    assert after.dtype == np.uint8
