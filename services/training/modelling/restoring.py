"""The network of a release, read back from its graph: to learn on from what is served, wherever it was fitted."""

import re
from typing import Any

import keras
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from services.training.data.scans import inputs
from services.training.modelling.network import network
from shared.ml.model import ModelMismatch

_INSIDE = re.compile(r"scanflow_\d+/([\w.]+?)_\d+/(\w+)")
"""Layer and operation in the name of a tensor that the network's part of the graph computes."""
Found = dict[tuple[str, str], np.ndarray]
"""Weights by layer and part."""

_SUMMED = "batch_normalization"
"""The one normalisation that Keras names, behind the sum of the three maps."""


def restored(graph: bytes) -> keras.Model:
    """Return the network that a LiteRT graph of `export.write` was made of; its answers are the graph's own.

    Normalisations come back as the export left them: folded into their convolutions. `unfolded` makes them learn.
    Raises ModelMismatch if a layer's weights are not in the graph: it is of another network.
    """
    model = network()
    found = _weights(graph, {layer.name for layer in model.layers if isinstance(layer, _CONVOLUTIONS)})
    for layer in model.layers:
        name = _SUMMED if layer.name.startswith(_SUMMED) else layer.name
        if isinstance(layer, keras.layers.BatchNormalization):
            source = layer.input._keras_history.operation
            folded = found.get((source.name, "bias")) if isinstance(source, _CONVOLUTIONS) else None
            beta = found.get((name, "add"), folded)
            gamma = found.get((name, "mul"), None if folded is None else np.ones_like(folded))
            _set(layer, [gamma, beta, *_unit(beta, layer.epsilon)])
        elif isinstance(layer, _CONVOLUTIONS):
            _set(layer, [found.get((name, "kernel"))])
        elif isinstance(layer, keras.layers.Dense):
            _set(layer, [found.get((name, "kernel")), found.get((name, "bias"))])
    return model


_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def _unit(beta: np.ndarray | None, epsilon: float) -> list[np.ndarray | None]:
    """A mean of 0, and a variance with which a normalisation divides by 1."""
    return [None, None] if beta is None else [np.zeros_like(beta), np.full_like(beta, 1 - epsilon)]


def _set(layer: keras.layers.Layer, weights: list[np.ndarray | None]) -> None:
    shapes = [tuple(known.shape) for known in layer.get_weights()]
    if [None if each is None else each.shape for each in weights] != shapes:
        raise ModelMismatch(f"The graph holds no weights of the layer {layer.name}: it is of another network.")
    layer.set_weights(weights)


def unfolded(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Give each normalisation the statistics of its inputs over prepared images, uint8 (n, 128, 128); return the model.

    What it computes stays the same, and in training, where statistics are the batch's, it stays nearly so.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    axes, seen = (0, 1, 2), keras.Model(model.input, [norm.input for norm in norms])
    parts = [seen.predict_on_batch(inputs(images[i : i + 32])) for i in range(0, len(images), 32)]
    sizes = np.array([len(images[i : i + 32]) for i in range(0, len(images), 32)], float)
    for place, norm in enumerate(norms):
        means = np.stack([part[place].mean(axis=axes, dtype=np.float64) for part in parts])
        squares = np.stack([np.square(part[place], dtype=np.float64).mean(axis=axes) for part in parts])
        mean, square = (np.average(values, axis=0, weights=sizes) for values in (means, squares))
        variance = np.maximum(square - np.square(mean), 1e-6)
        gamma, beta, known_mean, known_variance = norm.get_weights()
        scale = gamma / np.sqrt(known_variance + norm.epsilon)
        norm.set_weights([scale * np.sqrt(variance + norm.epsilon), beta + scale * (mean - known_mean), mean, variance])
    return model


def _weights(graph: bytes, convolutions: set[str]) -> Found:
    """Return kernel, bias, mul and add by layer, float32, as Keras lays them out. `convolutions` are layers' names."""
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph, 0))
    part = model.subgraphs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    kind = [codes[operation.opcodeIndex] for operation in part.operators]
    operator = schema.BuiltinOperator
    halves = {
        int(each.outputs[0]): int(each.inputs[0])
        for each, code in zip(part.operators, kind, strict=True)
        if code == operator.DEQUANTIZE
    }

    def constant(tensor: int) -> np.ndarray | None:
        stored = part.tensors[halves.get(tensor, tensor)]
        content = model.buffers[stored.buffer].data
        if content is None:
            return None
        dtype = np.float16 if stored.type == schema.TensorType.FLOAT16 else np.float32
        return np.frombuffer(bytes(content), dtype).astype(np.float32).reshape(stored.shape)

    found: Found = {}
    for each, code in zip(part.operators, kind, strict=True):
        inside = _INSIDE.findall(part.tensors[each.outputs[0]].name.decode())
        if not inside:
            continue
        values = [constant(int(tensor)) for tensor in each.inputs]
        if code in (operator.CONV_2D, operator.DEPTHWISE_CONV_2D):
            (name,) = {layer for layer, _ in inside if layer in convolutions}
            _keep(found, name, kernel=_transposed(values[1], (1, 2, 3, 0)), bias=values[2])
        elif code == operator.FULLY_CONNECTED:
            _keep(found, inside[0][0], kernel=_transposed(values[1], (1, 0)), bias=values[2])
        elif code in (operator.MUL, operator.ADD):
            for name in {layer for layer, what in inside if what == "batchnorm"}:
                _keep(found, name, **{"mul" if code == operator.MUL else "add": values[1]})
    return found


def _keep(found: Found, name: str, **values: np.ndarray | None) -> None:
    """Keep what is constant of a layer's operands, under the name that the network has for it."""
    known = _SUMMED if name.startswith(_SUMMED) else name
    found.update({(known, part): value for part, value in values.items() if value is not None})


def _transposed(values: np.ndarray | None, axes: tuple[int, ...]) -> np.ndarray | None:
    return None if values is None else values.transpose(axes)
