"""How unlike a brain MRI an image is, from what every stage of the network makes of it."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers


@dataclass(frozen=True)
class Novelty:
    """A fitted score: a small network's logit for "stranger" plus a Mahalanobis distance, both of whitened features."""

    mean: np.ndarray
    whitening: np.ndarray
    judge: keras.Model
    scale: float
    """Root mean square of the whitened features of real scans, by which the distance is measured."""

    def __call__(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """The score as part of the exported graph, (n, 1) from features (n, d)."""
        white = (features - self.mean) @ self.whitening
        distance = keras.ops.mean(keras.ops.square(white), axis=1, keepdims=True) / self.scale
        return self.judge(white) + keras.ops.log(distance + 1e-6)


def fit(real: np.ndarray, strange: np.ndarray, seed: int = 0) -> Novelty:
    """Fit on features (n, d) of real scans, augmented ones among them, and of strangers."""
    mean = real.mean(axis=0)
    whitening = _whitening(real - mean)
    white_real, white_strange = (real - mean) @ whitening, (strange - mean) @ whitening
    scale = float(np.mean(np.square(white_real)))
    return Novelty(mean, whitening, _judge(white_real, white_strange, seed), scale)


def limit(real: np.ndarray, strange: np.ndarray) -> float:
    """Two thirds of the way from what 99 of 100 real scans stay under to what 19 of 20 strangers pass.

    Nearer to the strangers, since refusing a brain from a scanner that validation does not know costs more than
    answering about a knee.
    """
    known, unknown = np.quantile(real, 0.99), np.quantile(strange, 0.05)
    return float(known + 2 / 3 * (unknown - known))


def _whitening(centred: np.ndarray, kept: int = 128) -> np.ndarray:
    """(d, kept): principal axes, each scaled to unit variance, the smallest ones softened."""
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    deviation = spread[:kept] / np.sqrt(len(centred))
    return (axes[:kept].T / np.sqrt(np.square(deviation) + np.square(deviation).mean() * 0.01)).astype(np.float32)


def _judge(real: np.ndarray, strange: np.ndarray, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    judge = keras.Sequential(
        [layers.Input(real.shape[1:]), layers.Dense(64, "relu"), layers.Dropout(0.3), layers.Dense(1)]
    )
    judge.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.05), keras.losses.BinaryCrossentropy(True, label_smoothing=0.02)
    )
    answers = np.repeat([0.0, 1.0], [len(real), len(strange)])[:, None]
    judge.fit(np.concatenate([real, strange]), answers, batch_size=128, epochs=20, verbose=0)
    return judge
