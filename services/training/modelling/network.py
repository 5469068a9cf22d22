"""The network: EfficientNet-Lite0 from ImageNet, its stages merged into one 16 x 16 map that is pooled and weighed."""

import keras
import numpy as np
from keras import layers

from services.training.data.scans import TYPES
from services.training.modelling.imagenet import imagenet_weights

WIDTH = 160
"""Channels of the merged map, and so the embedding's length."""

Stage = tuple[int, int, int, int, int]

_STAGES: list[Stage] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
"""Repeats, kernel, stride, expansion, channels: EfficientNet-B0's table (arXiv 1905.11946), Lite without squeezing."""


def network(momentum: float = 0.98) -> keras.Model:
    """Return the network: from `scan` (n, 128, 128, 3) in [0, 1], or smaller ones, to a dictionary of float32.

    logit (n,); cells (n, 16, 16), whose mean it is; types (n, 3) as logits; map (n, 16, 16, d); embedding (n, d), its
    mean; stages (n, 992), the channels' means and standard deviations at four depths, by which the unfamiliar shows.
    `momentum` is that of the normalisations' statistics.
    """
    scan = keras.Input((None, None, 3), name="scan")
    maps = _backbone(layers.Rescaling(255 / 128, offset=-127 / 128)(scan))
    merged = _merged(maps["stage2"], maps["stage4"], maps["head"])
    embedding = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(merged)
    # To weigh and then to pool is to pool and then to weigh; this way a lesion's place can be taught.
    cells = layers.Dense(1, name="logit", dtype="float32")(layers.SpatialDropout2D(0.2)(merged))
    outputs = {
        "logit": layers.Reshape((), dtype="float32")(layers.GlobalAveragePooling2D(dtype="float32")(cells)),
        "cells": keras.ops.squeeze(cells, -1),
        "types": layers.Dense(len(TYPES), name="types", dtype="float32")(layers.Dropout(0.2)(embedding)),
        "map": merged,
        "embedding": embedding,
        "stages": layers.Concatenate(dtype="float32")(
            [s for name in ("stage1", "stage2", "stage4", "stage6") for s in _statistics(maps[name])]
        ),
    }
    model = keras.Model(scan, outputs, name="scanflow")
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    _fill(model, imagenet_weights())
    return model


def _backbone(x: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(x)
    x = layers.ReLU(6)(_normalised(x, "bn0"))
    maps, block = {}, 0
    for number, stage in enumerate(_STAGES):
        for repeat in range(stage[0]):
            x = _block(x, f"blocks.{block}.", stage, stage[2] if repeat == 0 else 1)
            block += 1
        maps[f"stage{number}"] = x
    head = layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x)
    return maps | {"head": layers.ReLU(6)(_normalised(head, "bn1"))}


def _block(x: keras.KerasTensor, name: str, stage: Stage, stride: int) -> keras.KerasTensor:
    """Inverted residual: widen, filter each channel, project."""
    _, kernel, _, expansion, channels = stage
    y = x
    if expansion > 1:
        y = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        y = layers.ReLU(6)(_normalised(y, f"{name}_bn0"))
    y = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(y)
    y = layers.ReLU(6)(_normalised(y, f"{name}_bn1"))
    y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(y)
    y = _normalised(y, f"{name}_bn2")
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == channels else y


def _normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.98, epsilon=1e-3, name=name)(x)


def _merged(fine: keras.KerasTensor, middle: keras.KerasTensor, coarse: keras.KerasTensor) -> keras.KerasTensor:
    """Maps of 16, 8 and 4 pixels a side as one of 16, as in a feature pyramid (arXiv 1612.03144), rectified."""
    parts = [
        layers.Conv2D(WIDTH, 1, use_bias=False, name="lateral_fine")(fine),
        _enlarged(layers.Conv2D(WIDTH, 1, use_bias=False, name="lateral_middle")(middle), 2),
        _enlarged(layers.Conv2D(WIDTH, 1, use_bias=False, name="lateral_coarse")(coarse), 4),
    ]
    joined = layers.Add()([_normalised(part, f"lateral_norm_{i}") for i, part in enumerate(parts)])
    # Started at 3, the pooled features vary enough for the new last layer to learn as fast as the old ones.
    scaled = layers.BatchNormalization(momentum=0.98, epsilon=1e-3, gamma_initializer=keras.initializers.Constant(3.0))
    return layers.ReLU(name="merged")(scaled(joined))


def _enlarged(x: keras.KerasTensor, times: int) -> keras.KerasTensor:
    """Repeated and smoothed, which unlike Keras's bilinear layer takes images of any size."""
    return layers.AveragePooling2D(times + 1, strides=1, padding="same")(layers.UpSampling2D(times)(x))


def _statistics(x: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    x = keras.ops.cast(x, "float32")
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    variance = keras.ops.mean(keras.ops.square(x - mean), axis=(1, 2))
    return keras.ops.squeeze(mean, (1, 2)), keras.ops.sqrt(variance + 1e-5)


def _fill(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Put the ImageNet weights into the layers of the same names, but for the underscore that TensorFlow forbids."""
    for layer in model.layers:
        name = f"_{layer.name}"
        if f"{name}.weight" not in weights:
            continue
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
        else:
            order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            layer.set_weights([weights[f"{name}.weight"].transpose(order)])
