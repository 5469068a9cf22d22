"""Fitting: balanced batches of augmented scans, the last epoch's averaged weights."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from shared.preprocessing import SIDE

DRAWN = 0.06
"""Share of the scans without a tumour that get one drawn in and count as tumours."""
STRIPPED = 0.06
"""Share of the scans, where no tumour sits at the skull, that lose the outer ring of the head."""
SMOOTHING = 0.03


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
        images = self.scans.images[rows].copy()
        for i in range(len(rows)):
            if types[i] in {"", "glioma"} and rng.random() < STRIPPED:
                images[i] = augment.stripped(images[i], rng)
            if labels[i] == 0 and rng.random() < DRAWN:
                images[i], labels[i] = augment.with_lesion(images[i], rng), 1
            images[i] = augment.augmented(images[i], rng)
        sized = [cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA) for image in images]
        return inputs(np.stack(sized)), expected, weights


def answers(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the network should answer, and how much each answer counts: the type only where it is known."""
    known = (table["type"].to_numpy(str)[:, None] == np.array(TYPES)).astype(np.float32)
    expected = {"logit": table["label"].to_numpy(np.float32).copy(), "types": known}
    return expected, {"logit": np.ones(len(table), np.float32), "types": known.max(axis=1)}


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
    with strategy().scope():
        model = network()
        if done.exists():
            model.load_weights(done)
            return model
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
        callbacks=_callbacks(folder, batches, validation is not None),
        verbose=2,
    )
    model.save_weights(done)
    return model


def strategy() -> tf.distribute.Strategy:
    """A TPU where the job has one, else all GPUs (then in mixed precision), else the processor."""
    if tf.config.list_logical_devices("TPU"):
        return tf.distribute.TPUStrategy(tf.distribute.cluster_resolver.TPUClusterResolver(""))
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
    learner = keras.Model(model.input, {name: model.output[name] for name in ("logit", "types")})
    learner.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02, global_clipnorm=5.0, use_ema=True, ema_momentum=0.995),
        loss={
            "logit": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
            "types": keras.losses.CategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"logit": 1.0, "types": 0.25},
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

    return floats(None, None, 3), {"logit": floats(), "types": floats(3)}, {"logit": floats(), "types": floats()}


def _callbacks(folder: Path, batches: Batches, validated: bool) -> list[keras.callbacks.Callback]:
    watching = [keras.callbacks.EarlyStopping("val_logit_auc", patience=6, mode="max")] if validated else []
    return [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        Pace(batches),
        keras.callbacks.CSVLogger(folder / "history.csv", append=True),
        keras.callbacks.BackupAndRestore(folder / "unfinished"),
        *watching,
    ]
