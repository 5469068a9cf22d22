import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from services.training.data.scans import Scans
from services.training.modelling import fitting, schedule
from services.training.modelling.network import network
from services.training.modelling.schedule import FINETUNING, Schedule
from tests.support.eager import eager
from tests.support.training_scans import scans


@pytest.fixture(scope="module")
def known() -> Scans:
    images = np.random.default_rng(0).integers(0, 256, (40, 128, 128), dtype=np.uint8)
    return scans(images, label=np.repeat([0, 1], 20), type=[""] * 20 + ["glioma"] * 20)


def test_evidence_in_the_lesion_costs_less_than_evidence_beside_it():
    lesion, cells = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    lesion[:, 1, 1] = 1
    cells[0, 1, 1], cells[1, 3, 2] = 5, 5
    inside, beside = fitting.beside_lesion(lesion, cells).numpy()
    assert inside == pytest.approx(np.log(np.exp(5) + 15) - 5, abs=1e-3)
    assert beside == pytest.approx(np.log(np.exp(5) + 15), abs=0.02)


@dataclass(frozen=True)
class Fitted:
    """A finished fit: its network, its folder, and what stood at the end of its epoch, in memory and on the disk."""

    network: keras.Model
    folder: Path
    learnt: list[np.ndarray]
    optimiser: list[np.ndarray]
    average: np.ndarray
    left: Path
    """What a kill at that moment would have left of the folder."""


# The window of the average is a ninth of a run: of fewer than ten steps it is the last weights alone.
LONG_ENOUGH = Schedule(epochs=1, steps=12, batch=2)


@pytest.fixture(scope="module", autouse=True)
def small_and_few() -> Iterator[None]:
    """A quarter of the pixels, and statistics of two batches: what a fit does with them is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "SIDE", 64)
        patch.setattr(fitting, "CALIBRATED_ON", 2)
        yield


@pytest.fixture(scope="module")
def fitted(known, tmp_path_factory) -> Fitted:
    whole, folder, left = fitting.Progress.on_epoch_end, tmp_path_factory.mktemp("fit"), tmp_path_factory.mktemp("left")
    stood = {}

    def watched(self: fitting.Progress, epoch: int, logs: dict | None = None) -> None:
        whole(self, epoch, logs)
        shutil.copytree(folder, left, dirs_exist_ok=True)
        variables = self.model.optimizer.variables
        stood["learnt"] = [v.numpy() for v in self.model.trainable_variables]
        stood["optimiser"] = [v.numpy() for v in variables]
        stood["average"] = next(v.numpy() for v in variables if "average" in v.path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Progress, "on_epoch_end", watched)
        network = fitting.fit(known, np.arange(40), LONG_ENOUGH, folder)
    return Fitted(network, folder, left=left, **stood)


def test_a_finished_fit_is_not_done_again(known, fitted):
    history = (fitted.folder / "history.csv").read_text()
    again = fitting.fit(known, np.arange(40), LONG_ENOUGH, fitted.folder)
    assert (fitted.folder / "history.csv").read_text() == history
    assert all(np.array_equal(a, b) for a, b in zip(fitted.network.get_weights(), again.get_weights(), strict=True))
    assert list((fitted.folder / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_killed_fit_resumes_with_the_weights_that_learn_and_with_their_averages(fitted):
    learner = fitting.learner_of(network(), LONG_ENOUGH)
    assert fitting._resumed(learner, fitted.left) == 1
    learnt, optimiser = learner.trainable_variables, learner.optimizer.variables
    assert all(np.array_equal(v.numpy(), kept) for v, kept in zip(learnt, fitted.learnt, strict=True))
    assert all(np.array_equal(v.numpy(), kept) for v, kept in zip(optimiser, fitted.optimiser, strict=True))
    assert any("average" in v.path for v in optimiser)


def test_what_is_fitted_is_the_average_and_not_the_last_weights(fitted):
    shipped = fitted.network.get_layer("blocks.3._expand_conv").get_weights()[0]
    assert np.array_equal(shipped, fitted.average)
    assert not np.array_equal(shipped, fitted.learnt[0])


@pytest.mark.parametrize(("plan", "last"), [(Schedule(epochs=2), 8e-4), (replace(FINETUNING, epochs=2), 4e-6)])
def test_a_fit_warms_up_and_keeps_its_rate_and_one_on_corrections_lets_it_fall(plan, last):
    rate = fitting.learner_of(network(), plan).optimizer._learning_rate
    steps = plan.epochs * plan.steps
    assert float(rate(0)) == pytest.approx(plan.rate / 20)
    assert float(rate(steps // 15)) == pytest.approx(plan.rate)
    assert float(rate(steps)) == pytest.approx(last)


@pytest.mark.parametrize("steps", [1800, 450, 45])
def test_the_start_weighs_alike_little_in_the_average_of_any_number_of_steps(steps):
    momentum = fitting.averaging_momentum(Schedule(epochs=1, steps=steps))
    assert momentum**steps < 2e-4


def test_normalisation_statistics_become_those_of_what_is_given():
    model = network()
    fitting.freeze_early(model)
    seen = np.random.default_rng(0).random((4, 64, 64, 3), np.float32)
    norm = model.get_layer("lateral_norm_0")
    fitting.measure_normalisation(model, [seen, seen])
    once = norm.moving_mean.numpy().copy()
    norm.moving_mean.assign(once + 7)
    fitting.measure_normalisation(model, [seen])
    assert norm.moving_mean.numpy() == pytest.approx(once, abs=1e-3)
    assert isinstance(norm.momentum, float)


def test_what_was_learnt_in_mixed_precision_answers_in_single(known, tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    with eager():
        model = fitting.fit(known, np.arange(40), Schedule(epochs=1, steps=1, batch=1), tmp_path)
    assert model.compute_dtype == "float32"
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(model.predict(known.inputs()[:2], verbose=0)["logit"]).all()


def test_accelerators_get_larger_batches_of_as_many_images():
    keras.mixed_precision.set_global_policy("mixed_float16")
    plan = fitting.suited(Schedule(epochs=1), tf.distribute.get_strategy())
    keras.mixed_precision.set_global_policy("float32")
    assert (plan.batch, plan.steps) == (128, 30)
    assert fitting.suited(Schedule(epochs=1), tf.distribute.get_strategy()).batch == 32
