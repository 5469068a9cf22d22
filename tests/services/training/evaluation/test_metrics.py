import numpy as np
import pandas as pd
import pytest

from services.training.evaluation import metrics, robustness
from services.training.modelling.calibration import calibration_error


def test_figures_of_a_small_table_are_those_of_hand_arithmetic():
    found = metrics.figures(np.array([1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.2, 0.7, 0.1]), 0.5)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["auc_roc"] == pytest.approx(5 / 6)


def test_wanted_figures_are_those_of_all_with_the_same_intervals():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": np.arange(60) % 2, "probability": rng.random(60), "group": np.arange(60) // 3})
    every, some = metrics.with_intervals(table, 0.5), metrics.with_intervals(table, 0.5, wanted=["recall", "auc_roc"])
    names = {f"{name}{end}" for name in ("recall", "auc_roc") for end in ("", "_low", "_high")}
    assert some == {name: every[name] for name in names}


def test_sensitivity_is_read_at_no_less_than_the_specificity():
    labels, probabilities = (
        np.array([0] * 20 + [1] * 4),
        np.concatenate([np.linspace(0, 0.95, 20), [0.92, 0.99, 0.5, 1]]),
    )
    assert metrics.sensitivity_at(labels, probabilities, 0.95) == pytest.approx(3 / 4)
    assert metrics.sensitivity_at(labels, probabilities, 1.0) == pytest.approx(2 / 4)


def test_copies_of_one_head_widen_the_interval():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 40), 10)
    right = np.repeat(rng.random(40) < 0.8, 10)
    table = pd.DataFrame({"label": labels, "probability": np.where(right, labels, 1 - labels).astype(float)})
    by_head = metrics.with_intervals(table.assign(group=np.repeat(np.arange(40), 10)), 0.5)
    by_scan = metrics.with_intervals(table.assign(group=np.arange(400)), 0.5)
    assert by_head["accuracy_low"] <= by_head["accuracy"] <= by_head["accuracy_high"]
    assert by_head["accuracy_high"] - by_head["accuracy_low"] > 2 * (by_scan["accuracy_high"] - by_scan["accuracy_low"])


def test_few_healthy_people_widen_the_interval_of_specificity_whatever_the_tumours():
    table = pd.DataFrame({"label": [1] * 400 + [0] * 40, "group": [*range(400), *np.repeat(range(400, 404), 10)]})
    wrong = (table["group"] == 400).to_numpy()
    found = metrics.with_intervals(table.assign(probability=np.where(wrong, 0.9, table["label"])), 0.5)
    assert found["specificity_high"] - found["specificity_low"] > 0.3
    sizes = metrics.sample_sizes(table)
    assert sizes["healthy groups"] == 4
    assert sizes["healthy groups, effective"] == pytest.approx(4)


def test_every_scan_may_have_a_threshold_of_its_own():
    table = pd.DataFrame({"label": [1, 0], "group": [0, 1], "probability": [0.3, 0.6], "threshold": [0.2, 0.7]})
    assert metrics.with_intervals(table, 0.5)["accuracy"] == 1


def test_perfect_probabilities_have_an_expected_error_that_the_debiased_one_has_not():
    rng = np.random.default_rng(0)
    probabilities = np.clip(rng.beta(0.3, 0.3, 600), 0.01, 0.99)
    assert metrics.expected_if_perfect(probabilities) > 0.015
    drawn = [calibration_error(probabilities, (rng.random(600) < probabilities).astype(int)) ** 2 for _ in range(60)]
    assert np.mean(drawn) < 0.001


@pytest.mark.parametrize("name", robustness.CHANGES)
def test_a_changed_scan_is_still_an_input(name):
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128), dtype=np.uint8)
    after = robustness.changed(image, robustness.CHANGES[name])
    assert after.shape == (1, 128, 128)
    assert after.dtype == np.uint8
