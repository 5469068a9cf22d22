import numpy as np
import pytest

from services.training.modelling import export, ood
from services.training.modelling.network import network
from tests.support.training_scans import head, prepared


@pytest.fixture(scope="module")
def examples() -> ood.Examples:
    rng = np.random.default_rng(0)
    heads, images = rng.normal(0, 1, (2, 300, 20)), {}
    for number, kind in enumerate(("knee", "page")):
        images[kind] = rng.normal(0, 1, (100, 20)) + 2.5 * (np.arange(20) % 2 == number)
    return ood.Examples(heads[0], heads[1], np.repeat(["a", "b", "c"], 100), images, {})


def test_other_images_score_higher_than_heads(examples):
    score = ood.fit(examples)
    known, unknown = (np.asarray(score(part)).ravel() for part in (examples.heads, examples.images["knee"]))
    assert np.mean(unknown > np.quantile(known, 0.95)) > 0.9


def test_the_limit_accepts_the_heads_of_every_source_when_it_is_left_out(examples):
    limit = ood.limit(examples)
    for source in "abc":
        scores = np.asarray(ood.fit(examples, without_source=source)(examples.heads[examples.sources == source]))
        assert np.mean(scores <= limit) >= 0.98


def test_a_kind_that_is_left_out_is_not_learnt(examples):
    knee = examples.images["knee"]
    learnt, unlearnt = (np.asarray(ood.fit(examples, without_kind=kind)(knee)).mean() for kind in ("", "knee"))
    assert learnt > unlearnt + 1


def test_the_score_of_a_graph_is_that_of_the_fit():
    images = prepared(head(0), head(1))
    found = ood.statistics(images)
    assert found.shape == (2, 352)
    late = ood.late_statistics()
    export.round_to_shipped(late)
    early = network()
    assert late.input_shape[-1] == early.get_layer(ood.EARLY).input.shape[-1]


def test_the_fitted_classifier_that_ships_can_be_read():
    classifier, limit = ood.read_fitted()
    assert classifier.weights.shape == (352,)
    assert np.isfinite(limit)
    assert ood.as_json(classifier, limit) == ood.FITTED.read_text()
