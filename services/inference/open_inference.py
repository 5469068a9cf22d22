"""The Open Inference Protocol, version 2, over REST, with its binary tensor extension.

The form: github.com/kserve/open-inference-protocol, and Triton's protocol/extension_binary_data.
"""

import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from services.inference import schemas
from services.inference.bodies import Source, decoded_base64, json_object
from services.inference.problems import Problem, malformed
from services.inference.routes import service_of
from services.inference.scoring import Scored, score_tensor
from services.inference.service import MODEL_NAME, Service, in_order
from shared.imaging.preprocessing import SIDE
from shared.ml.model import Model

router = APIRouter(tags=["Open Inference Protocol"])

_HEADER = "Inference-Header-Content-Length"
_TENSOR = (SIDE, SIDE, 3)
_MAX_ROWS = 1024
_MODEL = f"/v2/models/{MODEL_NAME}"

_OUTPUTS: dict[str, tuple[str, tuple[int, ...], Callable[[Scored], object]]] = {
    "probability": ("FP32", (), lambda scored: scored.prediction.probability),
    "prediction": ("BYTES", (), lambda scored: scored.predicted_class),
    "scan_id": ("BYTES", (), lambda scored: scored.scan_id),
    "types": ("FP32", (-1,), lambda scored: list(scored.prediction.types.values())),
    "novelty": ("FP32", (), lambda scored: scored.prediction.novelty),
    "heat_map": ("FP32", (16, 16), lambda scored: scored.prediction.heat_map),
    "embedding": ("FP32", (-1,), lambda scored: scored.prediction.embedding),
}
"""Name: datatype, shape of a row (-1: as the release has it), value."""
_DEFAULT_OUTPUTS = ("probability", "prediction", "scan_id")


@router.get("/v2/health/live", summary="Is the server alive?")
async def server_live() -> dict[str, bool]:
    """True while the event loop runs."""
    return {"live": True}


@router.get("/v2/health/ready", summary="May requests be sent?", responses=schemas.problems(503))
async def server_ready(request: Request) -> dict[str, bool]:
    """True once a release is loaded and warm."""
    service_of(request).model  # noqa: B018 - raises where there is none yet
    return {"ready": True}


@router.get("/v2", summary="Server metadata")
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "scanflow", "version": "1", "extensions": ["binary_tensor_data"]}


@router.get(f"{_MODEL}/ready", summary="Is the model ready?", responses=schemas.problems(503))
@router.get(f"{_MODEL}/versions/{{version}}/ready", include_in_schema=False)
async def model_ready(request: Request) -> dict[str, Any]:
    """True for the release served, and for the one before it, which stays loaded."""
    service_of(request).release(_version(request))
    return {"name": MODEL_NAME, "ready": True}


@router.get(_MODEL, summary="Model metadata", responses=schemas.problems(503))
@router.get(f"{_MODEL}/versions/{{version}}", include_in_schema=False)
async def model_metadata(request: Request) -> dict[str, Any]:
    """Inputs and outputs."""
    model = service_of(request).release(_version(request))
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "scan", "datatype": "FP32", "shape": [-1, *_TENSOR]},
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *shape]} for name, (datatype, shape, _) in _OUTPUTS.items()
    ]
    versions = [model.card.version]
    return {"name": MODEL_NAME, "versions": versions, "platform": "litert", "inputs": inputs, "outputs": outputs}


@router.post(
    f"{_MODEL}/infer",
    summary="Predict files or prepared scans",
    response_model=schemas.InferResponse,
    responses=schemas.PREDICTION_PROBLEMS,
    openapi_extra=schemas.INFER_REQUEST,
)
@router.post(f"{_MODEL}/versions/{{version}}/infer", include_in_schema=False)
async def infer(request: Request) -> Response:
    """One input: `image`, BYTES (n), files of one page (in JSON base64); or `scan`, FP32 (n, 128, 128, 3) in [0, 1]."""
    service = service_of(request)
    model = service.release(_version(request))
    head, tail = _split(await request.body(), request.headers.get(_HEADER))
    value = json_object(head)
    wanted = _wanted(value)
    rows = _rows(service, model, value, tail)
    scored = [row async for row in in_order(rows, service.engine.workers + 1)]
    answer = {"model_name": MODEL_NAME, "model_version": model.card.version}
    if isinstance(value.get("id"), str):
        answer["id"] = value["id"]
    return _response(answer, [_Output.of(name, scored, binary) for name, binary in wanted.items()])


def _version(request: Request) -> str:
    """The version in the address, or none: every route of the model exists with and without."""
    return request.path_params.get("version", "")


def _split(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """The JSON part of a body, and the binary tensors behind it."""
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit() and int(header) <= len(body)):
        raise malformed(f"The header {_HEADER} is no length within the body.")
    return body[: int(header)], memoryview(body)[int(header) :]


def _wanted(value: dict[str, Any]) -> dict[str, bool]:
    """The outputs asked for, and whether each goes in binary form."""
    binary = _parameters(value).get("binary_data_output") is True
    asked = value.get("outputs") or [{"name": name} for name in _DEFAULT_OUTPUTS]
    if not isinstance(asked, list) or not all(isinstance(one, dict) and one.get("name") in _OUTPUTS for one in asked):
        raise malformed(f"The outputs are {', '.join(_OUTPUTS)}.")
    return {one["name"]: _parameters(one).get("binary_data", binary) is True for one in asked}


def _rows(service: Service, model: Model, value: dict[str, Any], tail: memoryview) -> list[Coroutine[Any, Any, Scored]]:
    """The work for each row of the one input."""
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise malformed("Send one input: image (BYTES) or scan (FP32).")
    match inputs[0].get("name"), inputs[0].get("datatype"):
        case "image", "BYTES":
            files = _files(inputs[0], tail)
            return [service.scored(Source(file), _one_page, model) for file in files]
        case "scan", "FP32":
            tensors = _tensors(inputs[0], tail)
            return [service.engine.run(partial(score_tensor, tensor, model)) for tensor in tensors]
    raise malformed("Send one input: image (BYTES) or scan (FP32).")


def _files(tensor: dict[str, Any], tail: memoryview) -> list[bytes]:
    size = _parameters(tensor).get("binary_data_size")
    files = _elements(_binary(tail, size)) if size is not None else _decoded(tensor.get("data"))
    if not files or math.prod(_shape(tensor)) != len(files):
        raise malformed("The input's shape is not that of its data.")
    return files


def _decoded(data: object) -> list[bytes]:
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]  # JSON tensors may be nested or flat
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise malformed("The input's data is a list of files, each as base64.")
    return [decoded_base64(text) for text in data]


def _elements(data: memoryview) -> list[bytes]:
    """The elements of a binary BYTES tensor: each has its length before it, four bytes, little-endian."""
    files = []
    while data:
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 + length:
            raise malformed("The input's binary data ends within an element.")
        files.append(bytes(data[4 : 4 + length]))
        data = data[4 + length :]
    return files


def _tensors(tensor: dict[str, Any], tail: memoryview) -> np.ndarray:
    """float32 (n, 128, 128, 3), every value finite and in [0, 1]."""
    size, shape = _parameters(tensor).get("binary_data_size"), _shape(tensor)
    if len(shape) != 4 or tuple(shape[1:]) != _TENSOR or not 0 < shape[0] <= _MAX_ROWS:
        raise malformed(f"The input's shape is [n, {SIDE}, {SIDE}, 3], n up to {_MAX_ROWS}.")
    try:
        values = np.frombuffer(_binary(tail, size), "<f4") if size is not None else np.array(tensor.get("data"), "f4")
        values = values.reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise malformed("The input's shape is not that of its data.") from None
    if not (values.min() >= 0 and values.max() <= 1):  # not a number fails too
        raise malformed("The input's values are not in [0, 1]. Prepare scans as training does, or send the files.")
    return values


def _shape(tensor: dict[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise malformed("The input has no shape of whole numbers.")
    return shape


def _binary(tail: memoryview, size: object) -> memoryview:
    if type(size) is not int or size != len(tail):
        raise malformed("The input's binary_data_size is not that of the bytes behind the JSON.")
    return tail


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    parameters = value.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _one_page(scored: list[Scored]) -> Scored:
    if len(scored) != 1:
        raise Problem(422, "several-pages", "A file has several pages. Send it to /v1/predict, or one page at a time.")
    return scored[0]


@dataclass(frozen=True, slots=True)
class _Output:
    """An output tensor, in JSON or in binary form."""

    head: dict[str, Any]
    tail: bytes

    @classmethod
    def of(cls, name: str, scored: list[Scored], binary: bool) -> Self:
        datatype, _, value = _OUTPUTS[name]
        values = [value(row) for row in scored]
        head = {"name": name, "datatype": datatype, "shape": list(np.shape(values))}
        if not binary:
            return cls(head | {"data": np.ravel(values).tolist()}, b"")
        tail = np.array(values, "<f4").tobytes() if datatype == "FP32" else b"".join(map(_element, values))
        return cls(head | {"parameters": {"binary_data_size": len(tail)}}, tail)


def _element(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def _response(answer: dict[str, Any], outputs: list[_Output]) -> Response:
    answer["outputs"] = [output.head for output in outputs]
    tail = b"".join(output.tail for output in outputs)
    if not tail:
        return JSONResponse(answer)
    head = json.dumps(answer).encode()
    return Response(head + tail, headers={_HEADER: str(len(head))}, media_type="application/octet-stream")
