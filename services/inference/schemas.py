"""What requests and answers look like, for the OpenAPI document and the people who read it."""

from typing import Any

from pydantic import BaseModel, Field

from shared.ml.model import PredictedClass

_SCAN = "2f0c" * 16


class Frame(BaseModel):
    """The square of the image that the network saw, in the image's pixels; it may reach beyond the image."""

    left: float
    top: float
    side: float


class HeatMap(BaseModel):
    """Where the evidence lies, on the cropped square of 128 x 128 pixels that the network saw."""

    values: list[list[float]] = Field(description="16 x 16 cells: evidence for Cancer (positive) or against it")
    overlay_png: str = Field(description="Base64 of a PNG: the evidence for Cancer in colour over the scan")
    image_png: str = Field(description="Base64 of a PNG: the page as decoded, at most 1,024 pixels a side")
    frame: Frame


class Answer(BaseModel):
    """One scan's prediction."""

    scan_id: str = Field(
        description="SHA-256 of the file, with -<page> behind it for a page of several", examples=[_SCAN]
    )
    prediction: PredictedClass
    probability: float = Field(ge=0, le=1, description="Calibrated probability of Cancer", examples=[0.973])
    threshold: float = Field(description="Cancer at or above this probability", examples=[0.5])
    types: dict[str, float] = Field(
        description="Probability of each tumour type, given that there is a tumour",
        examples=[{"glioma": 0.91, "meningioma": 0.07, "pituitary": 0.02}],
    )
    novelty: float = Field(description="How unlike a brain MRI the image is", examples=[0.4])
    model_version: str = Field(examples=["2026-11-23.1"])
    timings_ms: dict[str, float] = Field(
        description="Milliseconds a stage took", examples=[{"decode": 0.4, "prepare": 0.5, "network": 2.2}]
    )
    heat_map: HeatMap | None = Field(None, description="Only with explain=true")


class Answers(BaseModel):
    """The predictions of a file of several pages or frames, in order."""

    scans: list[Answer]


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:scanflow:problem:truncated"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(description="A sentence that says what to do")
    error: str = Field(description="The same, where TensorFlow Serving's and Triton's clients look for it")


class Line(BaseModel):
    """One line of a batch's answer: result or error."""

    index: int = Field(description="Place of the instance in the request, from 0")
    result: Answer | Answers | None = None
    error: ProblemDetails | None = None


class Predictions(BaseModel):
    """TensorFlow Serving's and Vertex AI's answer."""

    predictions: list[Answer | Answers]


class ModelVersion(BaseModel):
    """A version and its state, in TensorFlow Serving's form."""

    version: str
    state: str = Field(examples=["AVAILABLE"])
    status: dict[str, str]


class ModelStatus(BaseModel):
    """TensorFlow Serving's model status."""

    model_version_status: list[ModelVersion]


class Tensor(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str = Field(examples=["probability"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[1]])
    data: list[float | str] | None = Field(None, examples=[[0.97]])
    parameters: dict[str, Any] | None = None


class InferResponse(BaseModel):
    """The Open Inference Protocol's answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


_B64 = {"type": "object", "required": ["b64"], "properties": {"b64": {"type": "string", "format": "byte"}}}
_URI = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "examples": [f"gs://my-project-scans/Cancer/{_SCAN}.png"]}},
}
_FILE = {"type": "string", "format": "binary"}


def _form(file: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": ["file"], "properties": {"file": file}}}


FILE_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(_FILE),
            "application/octet-stream": {"schema": _FILE},
            "application/json": {"schema": {"oneOf": [_URI, _B64]}},
        },
    }
}
INSTANCES = {
    "type": "object",
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "minItems": 1, "items": {"oneOf": [_B64, _URI]}}},
}
BATCH_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": INSTANCES},
            "multipart/form-data": _form({"type": "array", "items": _FILE}),
        },
    }
}
INFER_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": Tensor.model_json_schema()},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {"name": {"type": "string"}},
                            },
                        },
                    },
                }
            }
        },
    }
}
INSTANCES_REQUEST = {"requestBody": {"required": True, "content": {"application/json": {"schema": INSTANCES}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its documentation."""
    return {
        status: {"model": ProblemDetails, "content": {"application/problem+json": {}}} for status in sorted(statuses)
    }


PREDICTION_PROBLEMS = problems(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
