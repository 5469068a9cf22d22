"""The Open Inference Protocol, version 2, over REST, with its binary tensor extension.

The form: github.com/kserve/open-inference-protocol, and Triton's protocol/extension_binary_data.
"""

import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, FailFast, Field, StrictBool, StrictInt, TypeAdapter

from services.inference.http.payloads import Base64Content, MalformedRequest, Source, parse_json
from services.inference.http.requests import MODEL_NAME, model_of, predictor_of
from services.inference.http.schemas import PREDICTION_PROBLEMS, json_schema, problems, request_body
from services.inference.predictor import PredictionResult, Predictor, ScanFile
from services.inference.worker_pool import in_order
from shared.imaging.preprocessing import SIDE
from shared.ml.model import Model

router = APIRouter(tags=["Open Inference Protocol"])

PROBES = frozenset({"/v2/health/live", "/v2/health/ready"})

_HEADER = "Inference-Header-Content-Length"
_TENSOR = (SIDE, SIDE, 3)
_MAX_ROWS = 1024
_MODEL = f"/v2/models/{MODEL_NAME}"

OutputName = Literal[
    "probability", "prediction", "scan_id", "types", "ood_score", "heat_map", "embedding", "calibration"
]

_OUTPUTS: dict[OutputName, tuple[str, tuple[int, ...], Callable[[PredictionResult], Any]]] = {
    "probability": ("FP32", (), lambda result: result.prediction.probability),
    "prediction": ("BYTES", (), lambda result: result.predicted_class),
    "scan_id": ("BYTES", (), lambda result: result.scan_id),
    "types": ("FP32", (-1,), lambda result: list(result.prediction.types.values())),
    "ood_score": ("FP32", (), lambda result: result.prediction.ood_score),
    "heat_map": ("FP32", (16, 16), lambda result: result.prediction.heat_map),
    "embedding": ("FP32", (-1,), lambda result: result.prediction.embedding),
    "calibration": ("BYTES", (), lambda result: result.chosen.name),
}
"""Name: datatype, shape of a row (-1: as the release has it), value."""
_DEFAULT_OUTPUTS: tuple[OutputName, ...] = ("probability", "prediction", "scan_id")


class InputParameters(BaseModel):
    """Where an input's data lies."""

    binary_data_size: StrictInt | None = None
    """Bytes behind the JSON; the data is in the JSON if absent."""


class RequestedOutputParameters(BaseModel):
    """Which form an output takes."""

    binary_data: StrictBool | None = None


class RequestParameters(BaseModel):
    """Which form outputs take that do not say, and where the scans come from."""

    binary_data_output: StrictBool = False
    source: Source = ""


def _flat(data: object) -> object:
    """Return a JSON tensor's elements: it may be nested or flat."""
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    return data


_Shape = list[Annotated[StrictInt, Field(ge=0)]]


class ImageInput(BaseModel):
    """Files of one page, BYTES (n); in JSON as base64."""

    name: Literal["image"]
    datatype: Literal["BYTES"]
    shape: _Shape = Field(examples=[[1]])
    data: Annotated[list[Base64Content], FailFast(), BeforeValidator(_flat)] | None = None
    parameters: InputParameters | None = None


class ScanInput(BaseModel):
    """Prepared scans, FP32 (n, 128, 128, 3), every value in [0, 1]."""

    name: Literal["scan"]
    datatype: Literal["FP32"]
    shape: _Shape = Field(examples=[[1, *_TENSOR]])
    data: list[Any] | None = None
    parameters: InputParameters | None = None


class RequestedOutput(BaseModel):
    """An output that the caller wants."""

    name: OutputName
    parameters: RequestedOutputParameters | None = None


class InferRequest(BaseModel):
    """The JSON part of a request."""

    id: str | None = None
    inputs: list[Annotated[ImageInput | ScanInput, Field(discriminator="name")]] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = None
    parameters: RequestParameters | None = None


class OutputTensor(BaseModel):
    """An output, whose data is here or behind the JSON."""

    name: str = Field(examples=["probability"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[1]])
    data: list[float | str] | None = Field(None, examples=[[0.97]])
    parameters: dict[str, int] | None = None


class InferResponse(BaseModel):
    """The JSON part of an answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


_REQUEST = TypeAdapter(InferRequest)


@router.get("/v2/health/live", summary="Is the server alive?")
async def server_live() -> dict[str, bool]:
    """True while the event loop runs."""
    return {"live": True}


@router.get("/v2/health/ready", summary="May requests be sent?", responses=problems(503))
async def server_ready(request: Request) -> dict[str, bool]:
    """True once a release is loaded and warm."""
    model_of(request)
    return {"ready": True}


@router.get("/v2", summary="Server metadata")
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "scanflow", "version": "1", "extensions": ["binary_tensor_data"]}


@router.get(f"{_MODEL}/ready", summary="Is the model ready?", responses=problems(503))
@router.get(f"{_MODEL}/versions/{{version}}/ready", include_in_schema=False)
async def model_ready(request: Request) -> dict[str, Any]:
    """True for the release served, and for the one before it, which stays loaded."""
    _named_model(request)
    return {"name": MODEL_NAME, "ready": True}


@router.get(_MODEL, summary="Model metadata", responses=problems(503))
@router.get(f"{_MODEL}/versions/{{version}}", include_in_schema=False)
async def model_metadata(request: Request) -> dict[str, Any]:
    """Inputs and outputs."""
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "scan", "datatype": "FP32", "shape": [-1, *_TENSOR]},
    ]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *shape]} for name, (datatype, shape, _) in _OUTPUTS.items()
    ]
    versions = [_named_model(request).card.version]
    return {"name": MODEL_NAME, "versions": versions, "platform": "litert", "inputs": inputs, "outputs": outputs}


@router.post(
    f"{_MODEL}/infer",
    summary="Predict files or prepared scans",
    response_model=InferResponse,
    response_model_exclude_none=True,
    responses=PREDICTION_PROBLEMS,
    openapi_extra=request_body({"application/json": json_schema(InferRequest)}),
)
@router.post(f"{_MODEL}/versions/{{version}}/infer", include_in_schema=False)
async def infer(request: Request) -> Response:
    """One input: `image`, BYTES (n), files of one page (in JSON base64); or `scan`, FP32 (n, 128, 128, 3) in [0, 1].

    The request's parameter `source` says where the scans come from: a commissioned site's own calibration and threshold
    then make the answers.
    """
    predictor, model = predictor_of(request), _named_model(request)
    head, tail = _split(await request.body(), request.headers.get(_HEADER))
    asked = parse_json(_REQUEST, head)
    work = _work(predictor, model, asked, tail)
    results = [result async for result in in_order(work, predictor.pool.workers + 1)]
    outputs = [_output(name, results, binary) for name, binary in _wanted(asked).items()]
    answer = InferResponse(
        model_name=MODEL_NAME, model_version=model.card.version, id=asked.id, outputs=[tensor for tensor, _ in outputs]
    )
    return _response(answer, b"".join(data for _, data in outputs))


def _named_model(request: Request) -> Model:
    """Return the release whose version the address names, or the served one: every route exists with and without."""
    return predictor_of(request).models.of_version(request.path_params.get("version", ""))


def _split(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """Return the JSON part of a body, and the binary tensors behind it."""
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit() and int(header) <= len(body)):
        raise MalformedRequest(f"The header {_HEADER} is no length within the body. Let the client library set it.")
    return body[: int(header)], memoryview(body)[int(header) :]


def _wanted(asked: InferRequest) -> dict[OutputName, bool]:
    """Return the outputs asked for, and whether each goes in binary form."""
    binary = asked.parameters is not None and asked.parameters.binary_data_output
    wanted = dict.fromkeys(_DEFAULT_OUTPUTS, binary)
    if not asked.outputs:
        return wanted
    return {output.name: _is_binary(output, binary) for output in asked.outputs}


def _is_binary(output: RequestedOutput, default: bool) -> bool:
    own = output.parameters.binary_data if output.parameters else None
    return default if own is None else own


def _work(
    predictor: Predictor, model: Model, asked: InferRequest, tail: memoryview
) -> list[Coroutine[Any, Any, PredictionResult]]:
    """Return the work for each row of the input."""
    (tensor,) = asked.inputs
    source = asked.parameters.source if asked.parameters else ""
    if isinstance(tensor, ImageInput):
        return [predictor.predict_page(ScanFile(file, source=source), model) for file in _files(tensor, tail)]
    return [predictor.predict_tensor(row, model, source) for row in _tensors(tensor, tail)]


def _files(tensor: ImageInput, tail: memoryview) -> list[bytes]:
    binary = _binary(tensor, tail)
    files = (tensor.data or []) if binary is None else _elements(binary)
    if not files or math.prod(tensor.shape) != len(files):
        raise MalformedRequest("The input's shape is not that of its data. Give the number of files.")
    return files


def _elements(data: memoryview) -> list[bytes]:
    """Return the elements of a binary BYTES tensor: each has its length before it, four bytes, little-endian."""
    files = []
    while data:
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 + length:
            raise MalformedRequest("The input's binary data ends within an element. Send it again.")
        files.append(bytes(data[4 : 4 + length]))
        data = data[4 + length :]
    return files


def _tensors(tensor: ScanInput, tail: memoryview) -> np.ndarray:
    """Return float32 (n, 128, 128, 3), every value finite and in [0, 1]. Raises MalformedRequest."""
    shape, binary = tensor.shape, _binary(tensor, tail)
    if len(shape) != 4 or tuple(shape[1:]) != _TENSOR or not 0 < shape[0] <= _MAX_ROWS:
        raise MalformedRequest(f"The input's shape is [n, {SIDE}, {SIDE}, 3], n up to {_MAX_ROWS}.")
    try:
        values = np.array(tensor.data, "f4") if binary is None else np.frombuffer(binary, "<f4")
        values = values.reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise MalformedRequest("The input's shape is not that of its data. Give the number of scans first.") from None
    if not (values.min() >= 0 and values.max() <= 1):  # not a number fails too
        raise MalformedRequest(
            "The input's values are not in [0, 1]. Prepare scans as training does, or send the files."
        )
    return values


def _binary(tensor: ImageInput | ScanInput, tail: memoryview) -> memoryview | None:
    """Return an input's binary data, None if its data is in the JSON. Raises MalformedRequest."""
    size = tensor.parameters and tensor.parameters.binary_data_size
    if size is None:
        return None
    if size != len(tail):
        raise MalformedRequest("The input's binary_data_size is not that of the bytes behind the JSON.")
    return tail


def _output(name: OutputName, results: list[PredictionResult], binary: bool) -> tuple[OutputTensor, bytes]:
    """Return an output tensor, and its binary data if it goes in that form."""
    datatype, _, value = _OUTPUTS[name]
    values = [value(result) for result in results]
    tensor = OutputTensor(name=name, datatype=datatype, shape=list(np.shape(values)), data=None)
    if not binary:
        tensor.data = np.ravel(values).tolist()
        return tensor, b""
    data = np.array(values, "<f4").tobytes() if datatype == "FP32" else b"".join(map(_element, values))
    tensor.parameters = {"binary_data_size": len(data)}
    return tensor, data


def _element(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def _response(answer: InferResponse, tail: bytes) -> Response:
    head = answer.model_dump_json(exclude_none=True).encode()
    if not tail:
        return Response(head, media_type="application/json")
    return Response(head + tail, headers={_HEADER: str(len(head))}, media_type="application/octet-stream")
