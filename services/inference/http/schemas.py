"""What the OpenAPI document says of requests that FastAPI does not parse itself, and of errors."""

from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from services.inference.http.payloads import Base64File, Instances, UriFile


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:scanflow:problem:truncated"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(description="A sentence that says what to do")
    error: str = Field(description="The same, for TensorFlow Serving's and Triton's clients, which look for it here")


_BINARY = {"type": "string", "format": "binary"}


def request_body(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the documentation of a body that the route reads itself: the schema of each content type."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": s} for kind, s in content.items()}}}


@cache
def json_schema(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever pydantic validates
    """Return the JSON schema of what a JSON body must be, with every definition in its place."""
    schema = TypeAdapter(kind).json_schema()
    definitions = schema.pop("$defs", {})

    def inline(value: Any) -> Any:  # noqa: ANN401 - any part of a schema
        if isinstance(value, dict):
            name = value.get("$ref", "").rpartition("/")[2]
            return inline(definitions[name]) if name else {key: inline(item) for key, item in value.items()}
        return [inline(item) for item in value] if isinstance(value, list) else value

    document: dict[str, Any] = inline(schema)
    return document


def form_schema(file: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form with the field `file`."""
    return {"type": "object", "required": ["file"], "properties": {"file": file}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return a route's error responses, for its documentation."""
    content = {"application/problem+json": {"schema": json_schema(ProblemDetails)}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


PREDICTION_PROBLEMS = problems(400, 401, 403, 404, 408, 413, 415, 422, 503)

ONE_FILE = request_body(
    {
        "multipart/form-data": form_schema(_BINARY),
        "application/octet-stream": _BINARY,
        "application/json": json_schema(Base64File | UriFile),
    }
)
MANY_FILES = request_body(
    {
        "application/json": json_schema(Instances),
        "multipart/form-data": form_schema({"type": "array", "items": _BINARY}),
    }
)
INSTANCES = request_body({"application/json": json_schema(Instances)})
