"""A last layer learns corrections without forgetting home."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from services.training.finetuning.last_layer import Labelled, LastLayer, fitted_on

WIDTH = 12
START = LastLayer(np.append([2.0, 1.0], np.zeros(WIDTH - 2)), -0.5)


def drawn(count: int, seed: int, *, at_site: bool = False, weight: float = 1.0) -> Labelled:
    """Scans: at home two features tell the label, at the site others, which hardly vary at home."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    embeddings = rng.normal(0, 1, (count, WIDTH))
    embeddings[:, 6:] *= 1 if at_site else 0.05
    telling = slice(6, 8) if at_site else slice(0, 2)
    embeddings[:, telling] += 3 * (2 * labels - 1)[:, np.newaxis] * (1 if at_site else 0.5)
    return Labelled(embeddings, labels, np.full(count, weight))


def auc(layer: LastLayer, *, at_site: bool) -> float:
    new = drawn(2000, 9, at_site=at_site)
    return float(roc_auc_score(new.labels, layer.log_odds(new.embeddings)))


def moved(layer: LastLayer, seed: int = 5) -> float:
    """Root mean square of the change of new home scans' log-odds."""
    new = drawn(1000, seed).embeddings
    return float(np.sqrt(np.mean(np.square(layer.log_odds(new) - START.log_odds(new)))))


def test_a_site_is_learnt_and_home_is_kept():
    found = fitted_on(START, drawn(1000, 0), drawn(100, 1, at_site=True, weight=4))
    assert auc(START, at_site=True) < 0.7
    assert auc(found, at_site=True) > 0.97
    assert auc(found, at_site=False) > auc(START, at_site=False) - 0.005


def test_corrections_that_contradict_home_do_not_turn_it():
    home = drawn(1000, 0)
    against = drawn(100, 1, weight=4)
    found = fitted_on(START, home, Labelled(against.embeddings, 1 - against.labels, against.weights))
    assert auc(found, at_site=False) > auc(START, at_site=False) - 0.01


def test_the_more_the_served_answers_weigh_the_less_it_moves():
    home, corrected = drawn(1000, 0), drawn(100, 1, at_site=True, weight=4)
    loose, held = (moved(fitted_on(START, home, corrected, kept)) for kept in (20, 20_000))
    assert held < 0.1 < loose


def test_more_corrections_move_it_further():
    home = drawn(1000, 0)
    few, many = (fitted_on(START, home, drawn(count, 1, at_site=True, weight=4)) for count in (2, 300))
    least, most = (np.abs(layer.weights[6:8]).sum() for layer in (few, many))
    assert 0 < least < most


def test_without_corrections_it_stays_nearly_as_it_was():
    nothing = drawn(0, 1)
    assert fitted_on(START, drawn(1000, 0), nothing, 1e6).weights == pytest.approx(START.weights, abs=0.02)
