import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from services.training.evaluation import explanation
from services.training.modelling import export, ood
from services.training.modelling.network import network

SCANS = np.random.default_rng(0).random((6, 128, 128, 1), np.float32).repeat(3, axis=3)


@pytest.fixture(scope="module")
def rounded() -> keras.Model:
    model = network()
    logit = model.get_layer("logit")
    logit.bias.assign(tf.constant([0.3]))
    export.round_to_shipped(model)
    return model


def test_rounding_to_what_ships_changes_answers_little():
    keras.utils.set_random_seed(0)
    model = network()
    before = model.predict(SCANS, verbose=0)["embedding"]
    export.round_to_shipped(model)
    assert np.abs(model.predict(SCANS, verbose=0)["embedding"] - before).max() < 0.05 * before.max()


def test_the_heat_map_is_grad_cam(rounded):
    shown, defined = explanation.heat_maps(rounded, SCANS), explanation.gradient_heat_maps(rounded, SCANS)
    assert np.abs(shown - defined).max() < 1e-4
    assert np.abs(shown).max() > 1e-3


def test_the_heat_map_adds_up_to_the_logit(rounded):
    logits = rounded.predict(SCANS, verbose=0)["logit"]
    assert explanation.heat_maps(rounded, SCANS).sum(axis=(1, 2)) + 0.3 == pytest.approx(logits, abs=1e-3)


def test_small_images_pass_through_the_same_network(rounded):
    assert rounded(SCANS[:, :96, :96])["map"].shape == (6, 12, 12, 160)


@pytest.fixture(scope="module")
def graph(rounded) -> keras.Model:
    return export.assembled(export.Release(rounded, 1.3, -0.2, 0.5, (0.4, 0.6), 1.5, *ood.read_fitted()))


def test_the_exported_graph_answers_as_keras_does(graph):
    expected = graph.predict(SCANS, verbose=0)
    run = Interpreter(model_content=export.litert(graph)).get_signature_runner()
    for row, scan in enumerate(SCANS):
        answers = run(scan=scan[np.newaxis])
        for name in ("probability", "heat_map", "types", "embedding"):
            assert np.abs(answers[name][0] - expected[name][row]).max() < 1e-3, name
        assert answers["ood_score"][0] == pytest.approx(expected["ood_score"][row], abs=0.02)


def test_a_scan_and_its_mirror_image_get_the_same_answer_with_the_map_mirrored(graph):
    plain, mirrored = graph.predict(SCANS, verbose=0), graph.predict(SCANS[:, :, ::-1], verbose=0)
    assert plain["probability"] == pytest.approx(mirrored["probability"], abs=1e-5)
    assert plain["heat_map"] == pytest.approx(mirrored["heat_map"][:, :, ::-1], abs=1e-5)


def test_a_peak_in_the_lesion_is_a_hit():
    masks = np.zeros((2, 128, 128), bool)
    masks[:, 40:56, 80:96] = True
    maps = np.zeros((2, 16, 16))
    maps[0, 6, 11], maps[1, 12, 3] = 1, 1
    assert explanation.lesion_hits(maps, masks).tolist() == [True, False]
