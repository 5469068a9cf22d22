"""A request's body and the files in it: forms, the file itself, and JSON."""

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, NoReturn

from fastapi import Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import parse_options_header

from services.inference.predictor import ScanFile
from shared.scan import OPTIONAL_SOURCE_PATTERN

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class MalformedRequest(Exception):
    """A request that is not formed as its route documents. Its text is a sentence for the caller."""


class UnsupportedMediaType(Exception):
    """A body of a kind that the route does not take."""


def _decoded_base64(value: object) -> bytes:
    """Return the bytes that base64 stands for. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("base64 is a text")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("this is not base64") from None


Base64Content = Annotated[bytes, PlainValidator(_decoded_base64), WithJsonSchema({"type": "string", "format": "byte"})]


Source = Annotated[str, Field(pattern=OPTIONAL_SOURCE_PATTERN, examples=["ward-3"])]
"""Where a scan comes from: a commissioned site's own calibration then makes the answer."""


class Base64File(BaseModel):
    """A file as base64."""

    model_config = ConfigDict(extra="forbid")

    b64: Base64Content
    source: Source = ""

    @property
    def file(self) -> ScanFile:
        """The file."""
        return ScanFile(self.b64, source=self.source)


class UriFile(BaseModel):
    """A scan of the scans bucket."""

    model_config = ConfigDict(extra="forbid")

    source: Source = ""
    uri: str = Field(examples=[f"gs://my-project-scans/Cancer/{'2f0c' * 16}.png"])

    @property
    def file(self) -> ScanFile:
        """The file."""
        return ScanFile(uri=self.uri, source=self.source)


def _unwrapped(value: object) -> object:
    """Return an instance without the name that TensorFlow Serving's clients give its input; bare text is base64.

    `source` may stand beside the input, as a second one.
    """
    if isinstance(value, str):
        return {"b64": value}
    if not isinstance(value, dict):
        return value
    beside = {name: said for name, said in value.items() if name == "source"}
    inputs = [said for name, said in value.items() if name != "source"]
    return inputs[0] | beside if len(inputs) == 1 and isinstance(inputs[0], dict) else value


Instance = Annotated[Base64File | UriFile, BeforeValidator(_unwrapped)]


class Instances(BaseModel):
    """Files to predict."""

    instances: Annotated[list[Instance], FailFast()] = Field(min_length=1)

    @property
    def files(self) -> list[ScanFile]:
        """The files, in order."""
        return [instance.file for instance in self.instances]


_INSTANCE: TypeAdapter[Base64File | UriFile] = TypeAdapter(Instance)
_INSTANCES = TypeAdapter(Instances)


def parse_json[T](adapter: TypeAdapter[T], body: bytes | memoryview) -> T:
    """Return what a JSON body says. Raises MalformedRequest."""
    try:
        return adapter.validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        fault = f"{place}: {first['msg']}" if place else first["msg"]
        raise MalformedRequest(f"The body is not as its route documents it ({fault}). See /docs.") from None


async def file_of(request: Request) -> ScanFile:
    """Return the one file of a request: in a form, as the raw body, or in JSON.

    Raises MalformedRequest, UnsupportedMediaType.
    """
    content_type = request.headers.get("content-type", "")
    kind, body = _kind(content_type), await request.body()
    if kind == "application/json":
        return parse_json(_INSTANCE, body).file
    if kind != "multipart/form-data":
        return ScanFile(body) if _may_be_image(kind) else _unsupported()
    files = multipart_files(body, content_type)
    if len(files) != 1:
        raise MalformedRequest(
            f"The form has {len(files)} files. Send one in the field `file`, or several to predict:batch."
        )
    return ScanFile(files[0])


async def files_of(request: Request) -> list[ScanFile]:
    """Return the files of a batch: a form of many, or JSON. Raises MalformedRequest, UnsupportedMediaType."""
    content_type = request.headers.get("content-type", "")
    kind, body = _kind(content_type), await request.body()
    if kind == "multipart/form-data":
        return [ScanFile(content) for content in multipart_files(body, content_type)]
    return parse_json(_INSTANCES, body).files if kind == "application/json" else _unsupported()


def multipart_files(body: bytes, content_type: str) -> list[bytes]:
    """Return the contents of the files in a form. Their names are never looked at. Raises MalformedRequest."""
    form = _Form()
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    try:
        parser = MultipartParser(boundary or b"", form.callbacks())
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, FormParserError, ValueError):
        raise MalformedRequest("The form is not valid multipart/form-data. Let the client library build it.") from None
    if not form.ended:
        raise MalformedRequest("The form ends before its last boundary. Send it again.")
    return form.files


class _Form:
    """Callbacks of the multipart parser; keeps the parts that are files."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.ended = False
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._is_file = False

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_ends,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._part_ends,
            "on_end": lambda: setattr(self, "ended", True),
        }

    def _part_begins(self) -> None:
        self._data, self._is_file = bytearray(), False

    def _header_ends(self) -> None:
        if self._name.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._value))[1]
            self._is_file = b"filename" in options or options.get(b"name") == b"file"
        self._name, self._value = bytearray(), bytearray()

    def _part_ends(self) -> None:
        if self._is_file:
            self.files.append(bytes(self._data))


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _may_be_image(kind: str) -> bool:
    return not kind or kind.startswith("image/") or kind in ("application/octet-stream", "application/dicom")


def _unsupported() -> NoReturn:
    raise UnsupportedMediaType
