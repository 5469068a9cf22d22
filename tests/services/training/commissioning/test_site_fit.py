"""What is fitted on few scans of a site, on drawn probabilities whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from services.training.commissioning import site_fit


def drawn(persons: int, seed: int, shift: float = 0.0, slices: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a release's probabilities, labels and persons; `shift` moves the site's logits off what they should be."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(persons) % 2, slices)
    person = np.repeat(rng.normal(0, 1, persons), slices)
    logits = 2.5 * (2 * labels - 1) + person + rng.normal(0, 0.3, persons * slices) + shift
    return expit(logits), labels, np.repeat(np.arange(persons), slices)


def test_a_shifted_site_is_calibrated_back():
    released, labels, groups = drawn(200, 0, shift=-3.0)
    found = site_fit.fit(released, labels, groups)
    own = site_fit.calibrated(released, found.slope, found.offset)
    assert np.mean((released >= 0.5) == (labels == 1)) < 0.85
    assert np.mean((own >= 0.5) == (labels == 1)) > 0.95
    before, after = (np.mean(np.square(values - labels)) for values in (released, own))
    assert after < before / 2


def test_few_scans_move_a_calibration_less_than_many():
    few, many = (site_fit.fit(*drawn(persons, 3, shift=-3.0)).offset for persons in (12, 200))
    assert 0 < few < many


def test_the_threshold_leaves_95_percent_of_the_next_healthy_scans_below():
    passed = []
    for seed in range(100):
        found = site_fit.fit(*drawn(100, seed))
        released, labels, _ = drawn(400, 1000 + seed)
        own = site_fit.calibrated(released, found.slope, found.offset)
        passed.append(np.mean(own[labels == 0] < found.threshold))
    assert np.mean(passed) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("slices", [1, 6])
def test_nine_tenths_of_the_next_persons_scans_lie_on_their_side_of_the_band(slices):
    inside = {0: [], 1: []}
    for seed in range(150):
        found = site_fit.fit(*drawn(40, seed, slices=slices))
        released, labels, _ = drawn(200, 5000 + seed, slices=slices)
        own = site_fit.calibrated(released, found.slope, found.offset)
        inside[0].append(np.mean(own[labels == 0] <= found.uncertain_to))
        inside[1].append(np.mean(own[labels == 1] >= found.uncertain_from))
    assert np.mean(inside[0]) >= 0.89
    assert np.mean(inside[1]) >= 0.89


def test_a_band_that_the_scans_cannot_tell_reaches_to_the_end():
    released, labels, _ = drawn(30, 0)
    found = site_fit.fit(released, labels, np.where(labels == 1, 0, np.arange(30)))  # one person has all the tumours
    assert found.uncertain_from == 0
    assert found.uncertain_to < 1


def test_cross_fitting_judges_nobody_by_their_own_scans():
    released, labels, groups = drawn(40, 2, slices=3)
    turned = np.where(groups == 7, 1 - labels, labels)  # person 7's labels are wrong: others' answers move, not theirs
    before, after = (site_fit.cross_fitted(released, each, groups) for each in (labels, turned))
    mine = groups == 8
    assert not np.allclose(before["probability"][mine], after["probability"][mine])
    right, wrong = (
        site_fit.cross_fitted(np.where(groups == 8, value, released), labels, groups) for value in (0.1, 0.9)
    )
    assert right["threshold"][mine].tolist() == wrong["threshold"][mine].tolist()


def test_one_person_of_a_kind_cannot_be_cross_fitted():
    released, labels, groups = drawn(30, 0)
    assert site_fit.cross_fitted(released, labels, np.where(labels == 1, 99, groups)) is None
