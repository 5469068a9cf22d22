"""Fitting: balanced batches of augmented scans, the last epoch's averaged weights."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from services.training import augment
from services.training.data import Scans, inputs
from services.training.network import TYPES, network
from services.training.split import strata
from shared.imaging.preprocessing import SIDE

DRAWN = 0.25
"""Share of the scans without a tumour that get one drawn in and count as tumours."""
STRIPPED = 0.06
"""Share of the scans, where no tumour sits at the skull, that lose the outer ring of the head."""
SMOOTHING = 0.03
CELL = 8
"""Pixels of the input a side that one cell of the network's map stands for."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    """Of `steps` batches each, the last fifth of them on whole images, those before on `small` ones."""
    steps: int = 120
    batch: int = 32
    rate: float = 8e-4
    small: int = 96
    """Pixels a side: nearly twice the images a second, and sizes that the network sees must not matter to it."""
    seed: int = 0
    start: Path | None = None
    """Weights of an earlier run to go on from, instead of ImageNet's."""

    def side(self, epoch: int) -> int:
        """Pixels a side of the images in this epoch."""
        return self.small if epoch < self.epochs - self.epochs // 5 else SIDE


class Pace(keras.callbacks.Callback):
    """Sets the images' size for each epoch; counts its seconds and the share of them spent waiting for images."""

    def __init__(self, batches: "Batches") -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.side = self.batches.schedule.side(epoch)
        self.started, self.waited = time.perf_counter(), self.batches.waited

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.perf_counter() - self.started
        logs |= {"seconds": seconds, "waiting": (self.batches.waited - self.waited) / seconds}


class Batches:
    """An endless, prefetched stream of batches: scans, answers and the answers' weights."""

    def __init__(self, scans: Scans, groups: np.ndarray, schedule: Schedule) -> None:
        self.scans, self.schedule = scans, schedule
        self.side = schedule.side(0)
        self.weights = sampling_weights(scans, groups)
        self.waited = 0.0
        self._ready: Queue = Queue(maxsize=8)
        for worker in range(2):
            rng = np.random.default_rng([schedule.seed, worker])
            threading.Thread(target=self._fill, args=(rng,), daemon=True).start()

    def __iter__(self) -> Iterator[tuple[np.ndarray, dict, dict]]:
        while True:
            started = time.perf_counter()
            batch = self._ready.get()
            self.waited += time.perf_counter() - started
            yield batch

    def _fill(self, rng: np.random.Generator) -> None:
        while True:
            rows = rng.choice(len(self.scans), self.schedule.batch, p=self.weights)
            self._ready.put(self._drawn(rows, rng))

    def _drawn(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict, dict]:
        expected, weights = answers(self.scans.table.iloc[rows])
        labels, types = expected["logit"], self.scans.table["type"].to_numpy(str)[rows]
        images, masks = self.scans.images[rows].copy(), np.zeros((len(rows), SIDE, SIDE), np.uint8)
        for i in range(len(rows)):
            if types[i] in {"", "glioma"} and rng.random() < STRIPPED:
                images[i] = augment.stripped(images[i], rng)
            if labels[i] == 0 and rng.random() < DRAWN:
                images[i], masks[i] = augment.with_lesion(images[i], rng)
                labels[i] = masks[i].any()
            moved = augment.placed(np.dstack([images[i], masks[i]]), rng)
            images[i], masks[i] = augment.retoned(np.ascontiguousarray(moved[..., 0]), rng), moved[..., 1]
        expected["cells"] = _sized(masks, self.side // CELL) / np.float32(255)
        weights["cells"] = expected["cells"].any(axis=(1, 2)).astype(np.float32)
        return inputs(_sized(images, self.side)), expected, weights


def _sized(images: np.ndarray, side: int) -> np.ndarray:
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


def beside_lesion(lesion: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Minus the logarithm of the share of the evidence, by softmax over the cells, that lies in a drawn lesion, (n,).

    `lesion` is the share of each cell that it covers, (n, h, w). Real tumours carry no outline to learn from.
    """
    shares = tf.nn.log_softmax(tf.reshape(cells, (tf.shape(cells)[0], -1)))
    return -tf.reduce_logsumexp(shares + tf.math.log(tf.reshape(lesion, tf.shape(shares)) + 1e-4), axis=1)


def answers(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the network should answer, and how much each answer counts: the type only where it is known, no place."""
    known = (table["type"].to_numpy(str)[:, None] == np.array(TYPES)).astype(np.float32)
    nowhere = np.zeros((len(table), SIDE // CELL, SIDE // CELL), np.float32)
    expected = {"logit": table["label"].to_numpy(np.float32).copy(), "types": known, "cells": nowhere}
    counts = {"logit": np.ones(len(table), np.float32), "types": known.max(axis=1), "cells": nowhere[:, 0, 0]}
    return expected, counts


def sampling_weights(scans: Scans, groups: np.ndarray) -> np.ndarray:
    """Probability of each scan: half of them tumours, types and sources alike, and many copies of one head tamed.

    A group weighs the square root of its size, so that a head with sixty copies counts for eight.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(sizes[group])
    kinds, labels = strata(scans.table), scans.table["label"].to_numpy()
    for label in (0, 1):
        mine = np.unique(kinds[labels == label])
        for kind in mine:
            weights[kinds == kind] *= 0.5 / len(mine) / weights[kinds == kind].sum()
    return weights / weights.sum()


def fit(
    scans: Scans, groups: np.ndarray, schedule: Schedule, folder: Path, validation: Scans | None = None
) -> keras.Model:
    """A fitted network. Its state is kept in `folder` after every epoch, from where a killed run goes on.

    Writes history.csv (loss, validation AUC, seconds, share of waiting per epoch) and TensorBoard's logs there.
    """
    done = folder / "last.weights.h5"
    if not done.exists():
        _learn(scans, groups, schedule, folder, validation).save_weights(done)
    # In single precision whatever it learnt in, because it is exported as it stands.
    keras.mixed_precision.set_global_policy("float32")
    model = network()
    model.load_weights(done)
    return model


def _learn(scans: Scans, groups: np.ndarray, schedule: Schedule, folder: Path, validation: Scans | None) -> keras.Model:
    chosen = strategy()
    schedule = suited(schedule, chosen)
    with chosen.scope():
        model = network()
        if schedule.start:
            model.load_weights(schedule.start)
        learner = _learner(model, schedule)
    batches = Batches(scans, groups, schedule)
    folder.mkdir(parents=True, exist_ok=True)
    learner.fit(
        tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=_signature()).prefetch(2),
        epochs=schedule.epochs,
        steps_per_epoch=schedule.steps,
        validation_data=None if validation is None else (validation.inputs(), *answers(validation.table)),
        validation_batch_size=64,
        callbacks=_callbacks(folder, batches, validation is not None, schedule.epochs),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return model


def suited(schedule: Schedule, chosen: tf.distribute.Strategy) -> Schedule:
    """As many images an epoch, in batches four times as large for each accelerator, and a rate higher by its root.

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
    """The TPU that TPU_NAME names, else all GPUs, either in mixed precision; else the processor."""
    if name := os.environ.get("TPU_NAME"):
        tpu = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name)
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return tf.distribute.TPUStrategy(tpu)
    if tf.config.list_physical_devices("GPU"):
        keras.mixed_precision.set_global_policy("mixed_float16")
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _learner(model: keras.Model, schedule: Schedule) -> keras.Model:
    freeze_early(model)
    steps = schedule.epochs * schedule.steps
    rate = keras.optimizers.schedules.CosineDecay(
        schedule.rate / 20, steps - steps // 15, alpha=0.02, warmup_target=schedule.rate, warmup_steps=steps // 15
    )
    learner = keras.Model(model.input, {name: model.output[name] for name in ("logit", "types", "cells")})
    learner.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02, global_clipnorm=5.0, use_ema=True, ema_momentum=0.995),
        loss={
            "logit": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
            "types": keras.losses.CategoricalCrossentropy(from_logits=True),
            "cells": beside_lesion,
        },
        loss_weights={"logit": 1.0, "types": 0.25, "cells": 0.25},
        weighted_metrics={"logit": keras.metrics.AUC(name="auc", from_logits=True)},
    )
    return learner


def freeze_early(model: keras.Model) -> None:
    """Keep ImageNet's edge filters: half the time of a step goes into them, and scans have edges like any picture."""
    for layer in model.layers:
        if layer.name == "blocks.3._expand_conv":
            return
        layer.trainable = False


def _signature() -> tuple:
    def floats(*shape: int) -> tf.TensorSpec:
        return tf.TensorSpec((None, *shape), tf.float32)

    expected = {"logit": floats(), "types": floats(3), "cells": floats(None, None)}
    return floats(None, None, 3), expected, {name: floats() for name in expected}


def _callbacks(folder: Path, batches: Batches, validated: bool, epochs: int) -> list[keras.callbacks.Callback]:
    # Not before half the epochs: until the rate has fallen, AUC goes up and down by chance.
    stopping = keras.callbacks.EarlyStopping("val_logit_auc", patience=6, mode="max", start_from_epoch=epochs // 2)
    return [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        Pace(batches),
        keras.callbacks.CSVLogger(folder / "history.csv", append=True),
        keras.callbacks.TensorBoard(folder / "tensorboard"),
        keras.callbacks.BackupAndRestore(folder / "unfinished"),
        *([stopping] if validated else []),
    ]
