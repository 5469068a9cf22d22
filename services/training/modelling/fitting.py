"""Fitting: augmented batches, and at the end the weights' average over the last steps."""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from services.training.data.scans import Scans
from services.training.modelling.batches import Batches
from services.training.modelling.network import network
from services.training.modelling.schedule import Schedule

SMOOTHING = 0.03
AVERAGED = 9
"""The share of the start in the averaged weights is e to the power of minus this, however many steps there are."""
CALIBRATED_ON = 30
"""Batches on which normalisation statistics are measured again for the averaged weights."""


class Progress(keras.callbacks.Callback):
    """Keeps weights and optimiser state after every epoch, and counts seconds and the share spent waiting for images.

    What is kept are the weights that learn and, within the optimiser, their averages: a later run resumes with both.
    """

    def __init__(self, folder: Path, batches: Batches) -> None:
        super().__init__()
        self._folder, self._batches = folder, batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._started, self._waited = time.perf_counter(), self._batches.waited

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add seconds and waiting to the logs, and write what a later run resumes from."""
        seconds = time.perf_counter() - self._started
        if logs is not None:
            logs |= {"seconds": seconds, "waiting": (self._batches.waited - self._waited) / seconds}
        new = self._folder / f"epoch{epoch + 1}.weights.h5"
        self.model.save_weights(new)
        (self._folder / "progress.json.new").write_text(json.dumps({"epoch": epoch + 1}))
        (self._folder / "progress.json.new").replace(self._folder / "progress.json")
        (self._folder / f"epoch{epoch}.weights.h5").unlink(missing_ok=True)


def fit(scans: Scans, copies: np.ndarray, schedule: Schedule, folder: Path) -> keras.Model:
    """Return a fitted network. A killed run resumes with the epoch it was in; a finished one is only read.

    Writes history.csv (loss, seconds, share of waiting per epoch) and TensorBoard's logs to `folder`, which belongs to
    this data and schedule alone (see `experiment.run_folder`).
    """
    done = folder / "last.weights.h5"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _learn(scans, copies, schedule, folder).save_weights(done)
        for left in folder.glob("epoch*.weights.h5"):
            left.unlink()
    # In single precision whatever it learnt in, because it is exported as it stands.
    keras.mixed_precision.set_global_policy("float32")
    model = network()
    model.load_weights(done)
    return model


def _learn(scans: Scans, copies: np.ndarray, schedule: Schedule, folder: Path) -> keras.Model:
    chosen = strategy()
    schedule = suited(schedule, chosen)
    with chosen.scope():
        model = network(momentum=normalisation_momentum(schedule))
        if schedule.start:
            model.load_weights(schedule.start)
        learner = learner_of(model, schedule)
    begun = _resumed(learner, folder)
    batches = Batches(scans, copies, schedule, first=begun * schedule.steps)
    callbacks = [
        Progress(folder, batches),
        keras.callbacks.CSVLogger(folder / "history.csv", append=True),
        keras.callbacks.TensorBoard(folder / "tensorboard"),
    ]
    if chosen.num_replicas_in_sync == 1:
        _step_by_step(learner, batches, schedule, begun, callbacks)
    else:
        _side_by_side(learner, batches, schedule, begun, callbacks)
    measure_normalisation(model, (batches.batch(schedule.epochs * schedule.steps + i)[0] for i in range(CALIBRATED_ON)))
    return model


def _step_by_step(
    learner: keras.Model, batches: Batches, schedule: Schedule, begun: int, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Learn from the epoch `begun` on, a batch a call.

    On a processor a step takes half the time and work that it takes in Keras's `fit`, with the same losses; what of it
    costs so much was not found (docs/experiments.md).
    """
    running = keras.callbacks.CallbackList(callbacks, model=learner, epochs=schedule.epochs, steps=schedule.steps)
    running.on_train_begin()
    stream = iter(batches)
    for epoch in range(begun, schedule.epochs):
        running.on_epoch_begin(epoch)
        # Keras starts its metrics afresh with every call, so their means over the epoch are taken here.
        each = [learner.train_on_batch(*next(stream), return_dict=True) for _ in range(schedule.steps)]
        logs = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        running.on_epoch_end(epoch, logs)
        print(f"Epoch {epoch + 1}/{schedule.epochs}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()), flush=True)
    learner.optimizer.finalize_variable_values(learner.trainable_weights)
    running.on_train_end()


def _side_by_side(
    learner: keras.Model, batches: Batches, schedule: Schedule, begun: int, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Learn from the epoch `begun` on with several accelerators, among which `fit` divides each batch."""
    learner.fit(
        tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=_signature()).prefetch(2),
        initial_epoch=begun,
        epochs=schedule.epochs,
        steps_per_epoch=schedule.steps,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _resumed(learner: keras.Model, folder: Path) -> int:
    """Load what a killed run left in the folder; return the number of epochs that it finished."""
    learner.optimizer.build(learner.trainable_variables)
    progress = folder / "progress.json"
    if not progress.exists():
        return 0
    epoch = int(json.loads(progress.read_text())["epoch"])
    learner.load_weights(folder / f"epoch{epoch}.weights.h5")
    return epoch


def averaging_momentum(schedule: Schedule) -> float:
    """Return the momentum of the weights' average: its window is the same share of a run of any number of steps."""
    return max(1 - AVERAGED / (schedule.epochs * schedule.steps), 0.0)


def normalisation_momentum(schedule: Schedule) -> float:
    """Return the momentum of normalisation statistics: at most 0.98, and a window of a fortieth of a shorter run."""
    return min(0.98, max(1 - 40 / (schedule.epochs * schedule.steps), 0.5))


def measure_normalisation(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set the moving statistics of the trainable normalisations to their means over these inputs.

    They followed the weights that learnt, and the averaged ones are others (Izmailov et al., arXiv 1803.05407).
    """
    norms = [n for n in model.layers if isinstance(n, keras.layers.BatchNormalization) and n.trainable]
    before = [norm.momentum for norm in norms]
    share = tf.Variable(0.0)
    for norm in norms:
        norm.momentum = share
    run = tf.function(lambda scans: model(scans, training=True)["logit"], reduce_retracing=True)
    for number, scans in enumerate(batches):
        share.assign(number / (number + 1))
        run(tf.constant(scans))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def suited(schedule: Schedule, chosen: tf.distribute.Strategy) -> Schedule:
    """Return as many images an epoch, in batches four times as large per accelerator, and a rate higher by its root.

    The root keeps the variance of a step's weights (Krizhevsky, arXiv 1404.5997).
    """
    if keras.mixed_precision.dtype_policy().name == "float32":
        return schedule
    larger = 4 * chosen.num_replicas_in_sync
    return replace(
        schedule,
        batch=larger * schedule.batch,
        steps=max(schedule.steps // larger, 1),
        rate=schedule.rate * larger**0.5,
    )


def strategy() -> tf.distribute.Strategy:
    """Return the TPU that TPU_NAME names, else all GPUs, either in mixed precision; else the processor."""
    if name := os.environ.get("TPU_NAME"):
        tpu = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name)
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return tf.distribute.TPUStrategy(tpu)
    if tf.config.list_physical_devices("GPU"):
        keras.mixed_precision.set_global_policy("mixed_float16")
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def learner_of(model: keras.Model, schedule: Schedule) -> keras.Model:
    """Return the network compiled to learn: its early stages frozen, its losses, its optimiser."""
    freeze_early(model)
    steps = schedule.epochs * schedule.steps
    warmup = steps // 15
    rate = keras.optimizers.schedules.CosineDecay(
        schedule.rate / 20, steps - warmup, alpha=schedule.kept, warmup_target=schedule.rate, warmup_steps=warmup
    )
    learner = keras.Model(model.input, {name: model.output[name] for name in ("logit", "types", "cells")})
    learner.compile(
        # Their averages come into the weights when a fit ends, and only then.
        keras.optimizers.AdamW(
            rate, weight_decay=0.02, global_clipnorm=5.0, use_ema=True, ema_momentum=averaging_momentum(schedule)
        ),
        loss={
            "logit": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
            "types": keras.losses.CategoricalCrossentropy(from_logits=True),
            "cells": beside_lesion,
        },
        loss_weights={"logit": 1.0, "types": 0.25, "cells": 0.4},
        weighted_metrics={"logit": keras.metrics.AUC(name="auc", from_logits=True)},
    )
    return learner


def beside_lesion(lesion: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Return the localisation loss: -log of the evidence's share, by softmax over the cells, inside the lesion, (n,).

    `lesion` is the share of each cell that it covers, (n, h, w).
    """
    shares = tf.nn.log_softmax(tf.reshape(cells, (tf.shape(cells)[0], -1)))
    return -tf.reduce_logsumexp(shares + tf.math.log(tf.reshape(lesion, tf.shape(shares)) + 1e-4), axis=1)


def freeze_early(model: keras.Model) -> None:
    """Keep ImageNet's edge filters: half the time of a step goes into them, and scans have edges like any picture."""
    for layer in model.layers:
        if layer.name == "blocks.3._expand_conv":
            return
        layer.trainable = False


def _signature() -> tuple[tf.TensorSpec, dict[str, tf.TensorSpec], dict[str, tf.TensorSpec]]:
    def floats(*shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec((None, *shape), tf.float32)

    expected = {"logit": floats(), "types": floats(3), "cells": floats(None, None)}
    return floats(None, None, 3), expected, {name: floats() for name in expected}
