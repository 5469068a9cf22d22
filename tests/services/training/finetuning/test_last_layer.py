"""A last layer learns corrections without forgetting home."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from services.training.finetuning.last_layer import MOST_MOVED, Corrected, LastLayer, fitted_on

WIDTH = 12
START = LastLayer(np.append([2.0, 1.0], np.zeros(WIDTH - 2)), -0.5)


def drawn(count: int, seed: int, *, at_site: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and labels: at home two features tell the label, at the site others, which hardly vary at home."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    embeddings = rng.normal(0, 1, (count, WIDTH))
    embeddings[:, 6:] *= 1 if at_site else 0.05
    telling = slice(6, 8) if at_site else slice(0, 2)
    embeddings[:, telling] += 3 * (2 * labels - 1)[:, np.newaxis] * (1 if at_site else 0.5)
    return embeddings, labels


def corrected(count: int, seed: int = 1, weight: float = 4.0) -> Corrected:
    embeddings, labels = drawn(count, seed, at_site=True)
    return Corrected(embeddings, labels, np.full(count, weight))


def auc(layer: LastLayer, *, at_site: bool) -> float:
    embeddings, labels = drawn(2000, 9, at_site=at_site)
    return float(roc_auc_score(labels, layer.log_odds(embeddings)))


def moved(layer: LastLayer, embeddings: np.ndarray) -> float:
    change = layer.log_odds(embeddings) - START.log_odds(embeddings)
    return float(np.sqrt(np.mean(np.square(change))))


def test_a_site_is_learnt_and_home_is_kept():
    found = fitted_on(START, drawn(1000, 0)[0], corrected(100))
    assert auc(START, at_site=True) < 0.7
    assert auc(found, at_site=True) > 0.97
    assert auc(found, at_site=False) > auc(START, at_site=False) - 0.005


def test_home_moves_no_further_than_it_may_however_many_speak_against_it():
    home, labels = drawn(1000, 0)
    against = Corrected(home, 1 - labels, np.full(len(home), 4.0))
    found = fitted_on(START, home, against)
    assert moved(found, home) == pytest.approx(MOST_MOVED, abs=0.02)
    assert moved(found, drawn(1000, 5)[0]) < 1.2 * MOST_MOVED  # scans that the bound was not taken on
    assert moved(fitted_on(START, home, against, most_moved=0.1), home) < 0.11


def test_what_is_known_already_moves_it_little():
    home = drawn(1000, 0)[0]
    embeddings, _ = drawn(50, 2)
    sure = embeddings + 8 * np.sign(START.log_odds(embeddings))[:, np.newaxis] * np.append([1, 1], np.zeros(WIDTH - 2))
    agreed = Corrected(sure, (START.log_odds(sure) > 0).astype(int), np.full(50, 2.0))
    assert moved(fitted_on(START, home, agreed), home) < 0.01


def test_more_corrections_move_it_further():
    home = drawn(1000, 0)[0]
    few, many = (moved(fitted_on(START, home, corrected(count), most_moved=9), home) for count in (3, 300))
    assert 0 < few < many


def test_without_corrections_it_stays():
    found = fitted_on(START, drawn(100, 0)[0], corrected(0))
    np.testing.assert_allclose(found.weights, START.weights)
