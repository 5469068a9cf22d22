"""Released graphs edited in place: what a sabotaged training, export or upload would have left in the file."""

from collections.abc import Callable

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator, OperatorT
from ai_edge_litert.tools import flatbuffer_utils

_DTYPES = {0: np.float32, 1: np.float16}
"""Of schema.fbs' TensorType."""


class Graph:
    """A LiteRT graph whose constants can be read and written."""

    def __init__(self, content: bytes) -> None:
        self._model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        self._graph = self._model.subgraphs[0]
        self._producers = {int(tensor): op for op in self._graph.operators for tensor in op.outputs}
        self._outputs = {each.name.decode(): each.tensorIndex for each in self._model.signatureDefs[0].outputs}

    @property
    def content(self) -> bytes:
        """The graph as a file."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def constant(self, tensor: int) -> np.ndarray:
        """Return a constant's values as float32."""
        buffer, dtype = self._buffer(tensor)
        return np.frombuffer(bytes(buffer.data), dtype).astype(np.float32)

    def write(self, tensor: int, values: np.ndarray | float) -> None:
        """Write over a constant, all tensors that share it included."""
        buffer, dtype = self._buffer(tensor)
        count = len(bytes(buffer.data)) // np.dtype(dtype).itemsize
        flat = np.broadcast_to(np.ravel(np.asarray(values)), (count,)).astype(dtype)
        buffer.data = np.frombuffer(flat.tobytes(), np.uint8)

    def calibration(self) -> tuple[int, int]:
        """Return the constants that the logit is multiplied by and that are added, before its sigmoid."""
        added = self._back("probability", BuiltinOperator.ADD)
        scaled = self._producers[int(added.inputs[0])]
        return int(scaled.inputs[1]), int(added.inputs[1])

    def last_layer(self) -> tuple[int, int]:
        """Return weights (160) and bias of the layer that makes the logit of the last map."""
        layers = [op for op in self._graph.operators if self._kind(op) == BuiltinOperator.FULLY_CONNECTED]
        layer = next(op for op in layers if self._graph.tensors[int(op.inputs[1])].shape[0] == 1)
        return int(layer.inputs[1]), int(layer.inputs[2])

    def kernels(self) -> list[int]:
        """Return the kernels of all convolutions, in the order in which they run."""
        kinds = (BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D)
        return [int(op.inputs[1]) for op in self._graph.operators if self._kind(op) in kinds]

    def run_for_each_output(self) -> None:
        """Run the whole network once for each output: the same answers, in several times the time."""
        original = [op for op in self._graph.operators if self._kind(op) != BuiltinOperator.DEQUANTIZE]
        moved = {}
        for output in self._model.signatureDefs[0].outputs:
            copies: dict[int, int] = {}
            self._graph.operators = [*self._graph.operators, *(self._copied(op, copies) for op in original)]
            moved[output.tensorIndex] = output.tensorIndex = copies[output.tensorIndex]
        self._graph.outputs = [moved.get(int(tensor), tensor) for tensor in self._graph.outputs]

    def _copied(self, op: OperatorT, copies: dict[int, int]) -> OperatorT:
        """Return an operator of the copy whose tensors so far are `copies`, and add its own."""
        copy = OperatorT()
        vars(copy).update(vars(op))
        copy.inputs = [copies.get(int(tensor), int(tensor)) for tensor in op.inputs]
        copies |= {int(tensor): self._new_tensor(int(tensor)) for tensor in op.outputs}
        copy.outputs = [copies[int(tensor)] for tensor in op.outputs]
        return copy

    def _new_tensor(self, like: int) -> int:
        tensor = type(self._graph.tensors[like])()
        vars(tensor).update(vars(self._graph.tensors[like]))
        tensor.name = b"spare"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _back(self, output: str, kind: int) -> OperatorT:
        """Return the nearest operator of a kind before an output."""
        op = self._producers[self._outputs[output]]
        while self._kind(op) != kind:
            op = self._producers[int(op.inputs[0])]
        return op

    def _kind(self, op: OperatorT) -> int:
        return int(self._model.operatorCodes[op.opcodeIndex].builtinCode)

    def _buffer(self, tensor: int) -> tuple[object, type]:
        made = self._producers.get(tensor)
        source = int(made.inputs[0]) if made else tensor  # a weight in half precision is widened first
        found = self._graph.tensors[source]
        return self._model.buffers[found.buffer], _DTYPES[found.type]


def edited(content: bytes, change: Callable[[Graph], None]) -> bytes:
    """Return a graph after a change."""
    graph = Graph(content)
    change(graph)
    return graph.content
