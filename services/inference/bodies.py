"""A request's body, whole and in memory within limits, and the files in it."""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import parse_options_header

from services.inference.asgi import Message, Receive
from services.inference.metrics import BODY_BYTES
from services.inference.problems import Problem, malformed, overloaded


@dataclass(slots=True, kw_only=True)
class Limits:
    """What bodies may take, and what they hold now."""

    seconds: float
    """In which a body must arrive."""
    one: int
    """Bytes of one body."""
    together: int
    """Bytes of all bodies in memory."""
    held: int = 0

    def hold(self, size: int) -> None:
        """Count bytes in, or out where negative."""
        self.held += size
        BODY_BYTES.set(self.held)

    def admit(self, size: int, more: int) -> None:
        """Raise Problem where a body of `size` is too large (413), or where `more` bytes do not fit now (503)."""
        if size > self.one:
            raise Problem(413, "request-too-large", "The request is too large. Send fewer or smaller files.")
        if self.held + more > self.together:
            raise overloaded()


class Body:
    """ASGI `receive` of one request that raises Problem when the body grows too large or takes too long."""

    def __init__(self, limits: Limits, receive: Receive, announced: int) -> None:
        """`announced`: the length in the request's header, or 0. Raises Problem where it is beyond the limits."""
        limits.admit(announced, announced)
        limits.hold(announced)
        self.complete = False
        self._limits, self._receive = limits, receive
        self._held, self._seen = announced, 0
        self._deadline = asyncio.get_running_loop().time() + limits.seconds

    async def __call__(self) -> Message:
        """The next ASGI message."""
        if self.complete:  # what comes now is the disconnection, for which there is no hurry
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "slow-body", "The request's body did not arrive in time. Send it again.") from None
        self.complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def release(self) -> None:
        """The request is over: its bytes are free again."""
        self._limits.hold(-self._held)

    def _count(self, size: int) -> None:
        self._seen += size
        more = max(self._seen - self._held, 0)
        self._limits.admit(self._seen, more)
        self._limits.hold(more)
        self._held += more


@dataclass(frozen=True, slots=True)
class Source:
    """Where one file's bytes are: in the request, or in the scans bucket under a `gs://` uri."""

    content: bytes = b""
    uri: str = ""


def file_of(content_type: str, body: bytes) -> Source:
    """The one file of a request: a multipart file, the raw body, or JSON `{"uri": ...}`. Raises Problem (400, 415)."""
    kind = _kind(content_type)
    if kind == "application/json":
        return source_of(json_object(body))
    if kind != "multipart/form-data":
        return Source(body) if _may_be_image(kind) else _unsupported()
    files = multipart_files(body, content_type)
    if len(files) != 1:
        raise malformed(f"The form has {len(files)} files. Send one in the field `file`, or several to predict:batch.")
    return Source(files[0])


def files_of(content_type: str, body: bytes) -> list[Source]:
    """The files of a batch: a form of many, or JSON `{"instances": [...]}`. Raises Problem (400, 415)."""
    kind = _kind(content_type)
    if kind == "multipart/form-data":
        return [Source(content) for content in multipart_files(body, content_type)]
    if kind != "application/json":
        _unsupported()
    return [source_of(instance) for instance in instances_of(json_object(body))]


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Problem (400)."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise malformed("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise malformed("The body is not a JSON object.")
    return value


def instances_of(value: dict[str, Any]) -> list[Any]:
    """The list under `instances`. Raises Problem (400)."""
    instances = value.get("instances")
    if not isinstance(instances, list) or not instances:
        raise malformed('The body has no list of "instances".')
    return instances


def source_of(instance: object) -> Source:
    """One instance: `{"b64": ...}`, `{"uri": ...}`, base64, or one of these under a name. Raises Problem (400)."""
    if isinstance(instance, str):
        return Source(decoded_base64(instance))
    if isinstance(instance, dict) and len(instance) == 1:
        ((name, value),) = instance.items()
        if name == "uri" and isinstance(value, str):
            return Source(uri=value)
        if name == "b64" and isinstance(value, str):
            return Source(decoded_base64(value))
        if isinstance(value, dict) and not any(isinstance(inner, dict) for inner in value.values()):
            return source_of(value)
    raise malformed('An instance is {"b64": "<base64 of a file>"} or {"uri": "gs://<scans bucket>/<scan>"}.')


def decoded_base64(text: str) -> bytes:
    """The bytes that base64 stands for. Raises Problem (400)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise malformed("A file's base64 is not valid.") from None


def multipart_files(body: bytes, content_type: str) -> list[bytes]:
    """Contents of the files in a multipart form. Their names are never looked at. Raises Problem (400)."""
    form = _Form()
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    try:
        parser = MultipartParser(boundary or b"", form.callbacks())
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, FormParserError, ValueError):
        raise malformed("The form is not valid multipart/form-data.") from None
    if not form.ended:
        raise malformed("The form ends before its last boundary.")
    return form.files


class _Form:
    """What the parser calls back, kept for the parts that are files."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.ended = False
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._is_file = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
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
    raise Problem(
        415, "unsupported-media-type", "Send multipart/form-data with a file, the file itself as image/*, or JSON."
    )
