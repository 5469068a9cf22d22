"""The released graph: one LiteRT model from a prepared scan to everything that serving answers."""

import hashlib
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from services.training.data.scans import TYPES
from services.training.modelling.map_statistics import EARLY, late_maps, map_statistics
from services.training.modelling.ood import OODClassifier
from shared.imaging.preprocessing import PREPROCESSING_VERSION, SIDE
from shared.ml.model import Card
from shared.ml.release_files import CARD_FILE, GRAPH_FILE


@dataclass(frozen=True)
class Release:
    """A fitted network with all that was measured on scans which the fits it was measured with never saw."""

    network: keras.Model
    slope: float
    offset: float
    threshold: float
    doubt: tuple[float, float]
    """Probabilities between which an answer is uncertain."""
    temperature: float
    """Of the tumour types."""
    ood: OODClassifier
    ood_limit: float


def assembled(release: Release) -> keras.Model:
    """Return the whole graph in Keras: scan -> probability, heat_map, embedding, types, ood_score.

    Logits, map and embedding are means over the scan and its mirror image. The OOD score reads the first map, which
    every network shares with ImageNet's, and ImageNet's own later maps.
    """
    scan = keras.Input((SIDE, SIDE, 3), name="scan")
    plain, mirrored = _both_ways(release.network, scan)
    inside = _mean(plain, mirrored)
    late = late_maps()
    round_to_shipped(late)
    return keras.Model(
        scan,
        {
            "probability": keras.ops.sigmoid(release.slope * inside["logit"] + release.offset),
            "heat_map": evidence(release.network, inside["cells"]),
            "embedding": inside["embedding"],
            "types": keras.ops.softmax(inside["types"] / release.temperature),
            "ood_score": keras.ops.reshape(release.ood(map_statistics([plain["early"], *late(plain["early"])])), (-1,)),
        },
    )


_Outputs = dict[str, keras.KerasTensor]


def _both_ways(network: keras.Model, scan: keras.KerasTensor) -> tuple[_Outputs, _Outputs]:
    """The network's outputs and its first map, for the scan and for its mirror image, whose cells are mirrored back.

    Both go through as one batch, which takes five sixths of the time of two.
    """
    names = ("logit", "cells", "types", "embedding")
    outputs = {name: network.output[name] for name in names} | {"early": network.get_layer(EARLY).input}
    # Under the network's own name, by which `restoring` finds its weights in the graph.
    whole = keras.Model(network.input, outputs, name=network.name)
    both = whole(keras.ops.concatenate([scan, keras.ops.flip(scan, axis=2)]))
    halves = {name: keras.ops.split(value, 2) for name, value in both.items()}
    plain, mirrored = ({name: parts[place] for name, parts in halves.items()} for place in range(2))
    return plain, mirrored | {"cells": keras.ops.flip(mirrored["cells"], axis=2)}


def _mean(plain: _Outputs, mirrored: _Outputs) -> _Outputs:
    return {name: (plain[name] + mirrored[name]) / 2 for name in plain if name != "early"}


def mirrored_outputs(network: keras.Model) -> keras.Model:
    """Return the network from scans (n, h, w, 3) to logit, cells, types and embedding as the release computes them."""
    scan = keras.Input((None, None, 3))
    return keras.Model(scan, _mean(*_both_ways(network, scan)))


def evidence(network: keras.Model, cells: keras.KerasTensor) -> keras.KerasTensor:
    """Return Grad-CAM for Cancer before its rectifier, (n, 16, 16), from the network's `cells` (n, 16, 16).

    Behind average pooling and one dense layer the gradient of the logit by channel k is w_k / 256 everywhere, so
    Grad-CAM (arXiv 1610.02391) is that weighted sum of the channels; over all cells it adds up to logit minus bias.
    """
    return (cells - network.get_layer("logit").bias) / (cells.shape[1] * cells.shape[2])


def round_to_shipped(network: keras.Model) -> None:
    """Fold every normalisation into its convolution and round all weights to half precision, as they will ship.

    From here on Keras and the shipped graph answer alike, so that what is calibrated and measured is what is shipped.
    """
    for norm in network.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        gamma, beta, mean, variance = norm.get_weights()
        scale = gamma / np.sqrt(variance + norm.epsilon)
        source = norm.input._keras_history.operation
        if isinstance(source, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            (kernel,) = source.get_weights()
            source.set_weights(
                [kernel * (scale[:, None] if isinstance(source, keras.layers.DepthwiseConv2D) else scale)]
            )
            remaining = np.ones_like(scale)
        else:
            remaining = scale
        unit = np.full_like(variance, 1 - norm.epsilon)
        norm.set_weights([_half(remaining), _half(beta - mean * scale), np.zeros_like(mean), unit])
    for layer in network.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([_half(weights) for weights in layer.get_weights()])


def _half(weights: np.ndarray) -> np.ndarray:
    return weights.astype(np.float16).astype(np.float32)


def litert(graph: keras.Model) -> bytes:
    """The graph for one scan a call, with weights in half precision."""

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, name="scan")])
    def run(scan: tf.Tensor) -> dict[str, tf.Tensor]:
        return graph(scan, training=False)

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()  # tracks the weights; without it the graph is exported empty
        archive.track(graph)
        archive.add_endpoint("serving_default", run)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def write(release: Release, folder: Path, metrics: dict[str, Any]) -> Card:
    """Write model.tflite and card.json. The version is the day and the first digits of the graph's checksum."""
    graph = litert(assembled(release))
    sha256, now = hashlib.sha256(graph).hexdigest(), datetime.now(UTC)
    card = Card(
        version=f"{now:%Y%m%d}-{sha256[:8]}",
        sha256=sha256,
        threshold=round(release.threshold, 6),
        uncertain_from=round(release.doubt[0], 6),
        uncertain_to=round(release.doubt[1], 6),
        ood_limit=round(release.ood_limit, 6),
        tumour_types=TYPES,
        preprocessing_version=PREPROCESSING_VERSION,
        created_at=now.isoformat(timespec="seconds"),
        metrics=metrics,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH_FILE).write_bytes(graph)
    (folder / CARD_FILE).write_bytes(card.to_json())
    return card
