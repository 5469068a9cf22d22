from dataclasses import replace

import numpy as np
import pytest

from services.training.data.scans import inputs
from services.training.modelling import export, ood
from services.training.modelling.map_statistics import statistics
from services.training.modelling.network import network
from tests.support.training_scans import head, prepared


@pytest.fixture(scope="module")
def examples() -> ood.Examples:
    rng = np.random.default_rng(0)
    heads, images = rng.normal(0, 1, (2, 300, 20)), {}
    for number, kind in enumerate(("knee", "page")):
        images[kind] = rng.normal(0, 1, (100, 20)) + 2.5 * (np.arange(20) % 2 == number)
    return ood.Examples(heads[0], heads[1], np.repeat(["a", "b", "c"], 100), np.arange(300), images, {})


@pytest.fixture(scope="module")
def known(examples: ood.Examples) -> ood.Units:
    return ood.units(examples)


def scores(classifier: ood.OODClassifier, features: np.ndarray) -> np.ndarray:
    return np.asarray(classifier(features))


def test_other_images_score_higher_than_heads(examples, known):
    classifier = ood.fit(examples, known)
    heads, knees = (scores(classifier, part) for part in (examples.heads, examples.images["knee"]))
    assert np.mean(knees > np.quantile(heads, 0.95)) > 0.9


def test_the_limit_accepts_the_heads_of_every_source_when_it_is_left_out(examples, known):
    limit = ood.limit(examples, known)
    for source in "abc":
        heads = examples.heads[examples.sources == source]
        assert np.mean(scores(ood.fit(examples, known, without_source=source), heads) <= limit) >= 0.98


def test_a_kind_that_is_left_out_is_not_learnt(examples, known):
    knee = examples.images["knee"]
    learnt, unlearnt = (scores(ood.fit(examples, known, without_kind=kind), knee).mean() for kind in ("", "knee"))
    assert learnt > unlearnt + 0.5


def test_what_nobody_showed_is_far_from_every_head(examples, known):
    rng = np.random.default_rng(1)
    unlike_any = rng.normal(0, 1, (100, 20)) + 6 * rng.choice([-1, 1], (100, 20)) * (np.arange(20) % 4 == 3)
    assert np.mean(scores(ood.fit(examples, known), unlike_any) > ood.limit(examples, known)) > 0.95


def test_the_distance_is_mahalanobis_own(examples):
    parts = ood._parts(examples, "", "")
    heads = np.concatenate([examples.heads, examples.varied])
    centred = (heads - parts.middle) * parts.scale
    covariance = centred.T @ centred / len(centred) + np.eye(20)
    expected = np.log(np.einsum("nd,de,ne->n", centred, np.linalg.inv(covariance), centred))
    assert parts.scores(heads)[1] == pytest.approx(expected, abs=1e-6)


def test_many_copies_of_one_odd_head_do_not_raise_the_limit(examples, known):
    limit, odd = ood.limit(examples, known), examples.heads.copy()
    odd[85:100] = 4
    copies = np.where(np.arange(300) // 15 * 15 == 75, 90, np.arange(300))
    copies[85:100] = 90
    assert ood.limit(replace(examples, heads=odd, people=copies), known) < limit + 1
    assert ood.limit(replace(examples, heads=odd), known) > limit + 2


def test_the_score_of_a_graph_is_that_of_the_fit():
    classifier, limit = ood.read_fitted()
    images = prepared(head(0), head(1))
    release = export.Release(network(), 1.0, 0.0, 0.5, (0.4, 0.6), 1.0, classifier, limit)
    graph = export.assembled(release)
    found = np.asarray(graph(inputs(images))["ood_score"])
    # The graph's late maps are rounded to half precision.
    assert found == pytest.approx(scores(classifier, statistics(images)), abs=0.05)


def test_the_fitted_classifier_that_ships_is_read_as_it_was_written(tmp_path):
    classifier, limit = ood.read_fitted()
    assert classifier.weights.shape == (1408,)
    assert np.isfinite(limit)
    ood.write_fitted(classifier, limit, tmp_path / "again.npz")
    again, same = ood.read_fitted(tmp_path / "again.npz")
    assert same == limit
    images = np.random.default_rng(0).normal(0, 1, (5, 1408)).astype(np.float32)
    assert np.array_equal(scores(again, images), scores(classifier, images))
