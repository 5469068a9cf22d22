from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from services.training.data.scans import Scans
from services.training.modelling import fitting
from services.training.modelling.network import network
from services.training.modelling.schedule import Schedule
from tests.support.training_scans import scans

PLAN = Schedule(epochs=2, steps=2, batch=4, small=64)


@pytest.fixture(scope="module")
def known() -> Scans:
    images = np.random.default_rng(0).integers(0, 256, (40, 128, 128), dtype=np.uint8)
    return scans(images, label=np.repeat([0, 1], 20), type=[""] * 20 + ["glioma"] * 20)


class Killed(Exception):
    """The process ends here."""


def test_evidence_in_the_lesion_costs_less_than_evidence_beside_it():
    lesion, cells = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    lesion[:, 1, 1] = 1
    cells[0, 1, 1], cells[1, 3, 2] = 5, 5
    inside, beside = fitting.beside_lesion(lesion, cells).numpy()
    assert inside == pytest.approx(np.log(np.exp(5) + 15) - 5, abs=1e-3)
    assert beside == pytest.approx(np.log(np.exp(5) + 15), abs=0.02)


@dataclass(frozen=True)
class Fitted:
    """A finished fit: its network, its folder, and one variable as it stood after the last step."""

    network: keras.Model
    folder: Path
    learnt: np.ndarray
    average: np.ndarray


# The window of the average is a ninth of a run: of fewer than ten steps it is the last weights alone.
LONG_ENOUGH = Schedule(epochs=1, steps=12, batch=2, small=64)


@pytest.fixture(scope="module")
def fitted(known, tmp_path_factory) -> Fitted:
    last = {}

    def watched(self: fitting.Progress, epoch: int, logs: dict | None = None) -> None:
        whole(self, epoch, logs)
        learnt = self.model.trainable_variables
        averages = [v for v in self.model.optimizer.variables if "average" in v.path]
        last["learnt"], last["average"] = learnt[0].numpy(), averages[0].numpy()

    whole, folder = fitting.Progress.on_epoch_end, tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Progress, "on_epoch_end", watched)
        return Fitted(fitting.fit(known, np.arange(40), LONG_ENOUGH, folder), folder, **last)


def test_a_finished_fit_is_not_done_again(known, fitted):
    history = (fitted.folder / "history.csv").read_text()
    again = fitting.fit(known, np.arange(40), LONG_ENOUGH, fitted.folder)
    assert (fitted.folder / "history.csv").read_text() == history
    assert all(np.array_equal(a, b) for a, b in zip(fitted.network.get_weights(), again.get_weights(), strict=True))
    assert list((fitted.folder / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_killed_fit_resumes_with_the_weights_that_learn_and_with_their_averages(known, tmp_path, monkeypatch):
    kept = {}

    def killed(self: fitting.Progress, epoch: int, logs: dict | None = None) -> None:
        whole(self, epoch, logs)
        kept["learnt"] = [v.numpy() for v in self.model.trainable_variables]
        kept["optimiser"] = [v.numpy() for v in self.model.optimizer.variables]
        raise Killed

    whole = fitting.Progress.on_epoch_end
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Progress, "on_epoch_end", killed)
        with pytest.raises(Killed):
            fitting.fit(known, np.arange(40), PLAN, tmp_path)
    learner = fitting.learner_of(network(), PLAN)
    assert fitting._resumed(learner, tmp_path) == 1
    assert all(np.array_equal(v.numpy(), k) for v, k in zip(learner.trainable_variables, kept["learnt"], strict=True))
    assert all(
        np.array_equal(v.numpy(), k) for v, k in zip(learner.optimizer.variables, kept["optimiser"], strict=True)
    )
    assert any("average" in v.path for v in learner.optimizer.variables)


def test_what_is_fitted_is_the_average_and_not_the_last_weights(fitted):
    shipped = fitted.network.get_layer("blocks.3._expand_conv").get_weights()[0]
    assert np.array_equal(shipped, fitted.average)
    assert not np.array_equal(shipped, fitted.learnt)


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
    model = fitting.fit(known, np.arange(40), Schedule(epochs=1, steps=1, batch=1, small=64), tmp_path)
    assert model.compute_dtype == "float32"
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(model.predict(known.inputs()[:2], verbose=0)["logit"]).all()


def test_accelerators_get_larger_batches_of_as_many_images():
    keras.mixed_precision.set_global_policy("mixed_float16")
    plan = fitting.suited(Schedule(epochs=1), tf.distribute.get_strategy())
    keras.mixed_precision.set_global_policy("float32")
    assert (plan.batch, plan.steps) == (128, 30)
    assert fitting.suited(Schedule(epochs=1), tf.distribute.get_strategy()).batch == 32
