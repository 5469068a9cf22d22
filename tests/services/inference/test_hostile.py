"""Bytes and requests that nobody of good will sends. None may cost a 5xx other than 503, memory or a descriptor."""

import base64
import http.client
import json
import random
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from tests.support.heads import encoded, head
from tests.support.servers import Server

ALLOWED = {200, 400, 403, 404, 405, 408, 413, 415, 422, 429, 503}
REQUESTS = 10_000
CALLERS = 8


def test_the_service_does_what_its_openapi_document_says(server: Server):
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [operation.ok() for operation in document.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def holds(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # a well-formed form may hold no scan

        holds()


@given(content=st.binary(max_size=2000), prefix=st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM"]))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_answered_or_rejected(client: TestClient, content: bytes, prefix: bytes):
    assert client.post("/v1/predict", content=prefix + content).status_code in ALLOWED


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_files_with_damaged_bytes_are_answered_or_rejected(client: TestClient, valid_files: list, data: st.DataObject):
    content = bytearray(data.draw(st.sampled_from(valid_files)))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, min(len(content), 600) - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    assert client.post("/v1/predict", content=bytes(content)).status_code in ALLOWED


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(["instances", "inputs", "b64", "uri", "data", "shape", "outputs", "parameters"]), v
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_is_answered_or_rejected(client: TestClient, value: object):
    for path in ("/v1/predict", "/v1/predict:batch", "/v1/models/scanflow:predict", "/v2/models/scanflow/infer"):
        headers = {"Content-Type": "application/json"}
        assert client.post(path, content=json.dumps(value), headers=headers).status_code in ALLOWED


@pytest.fixture(scope="module")
def valid_files(jpeg: bytes, two_pages: bytes) -> list[bytes]:
    """A small scan in every format that Pillow writes."""
    small = head(48, 48)
    return [jpeg, two_pages, *(encoded(small, format) for format in ("PNG", "BMP", "TIFF", "JPEG"))]


def png(width: int, height: int, rows: Iterator[bytes]) -> bytes:
    """A grey PNG of any claimed size."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for row in rows) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BOMBS = {
    "a PNG of 100 megapixels": (lambda: png(10_000, 10_000, (bytes(10_001) for _ in range(10_000))), 413),
    "a PNG that claims 4 gigapixels": (lambda: png(65_535, 65_535, iter([b"x"])), 413),
    "a BMP that claims 4 gigapixels": (lambda: bmp_head(65_535, 65_535) + bytes(946), 413),
    "10 MB of text": (lambda: b"A" * 10_000_000, 415),
}
"""Files that are small until somebody decodes them, and the answer each must get."""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(server: Server, name: str):
    bomb, status = BOMBS[name]
    before = peak_mb(server)
    answer = requests.post(f"{server.url}/v1/predict", data=bomb(), timeout=120)
    assert answer.status_code == status
    assert peak_mb(server) - before < 60


def bmp_head(width: int, height: int) -> bytes:
    """The head of a 24-bit BMP of any claimed size."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.drill
def test_ten_thousand_mixed_requests_leak_nothing(server: Server, jpeg: bytes):
    mix = list(mixed(jpeg))
    send(server, mix, REQUESTS // 5)
    process = psutil.Process(server.process.pid)
    before, descriptors = process.memory_info().rss, process.num_fds()
    statuses = send(server, mix, REQUESTS)
    assert set(statuses) <= ALLOWED
    assert statuses.total() == REQUESTS
    assert len(statuses) >= 7
    assert process.memory_info().rss - before < 30 * 2**20
    assert process.num_fds() <= descriptors + 2


def mixed(jpeg: bytes) -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Method, path, body and headers of good and bad requests to every route."""
    text = base64.b64encode(encoded(head(40, 40), "PNG")).decode()
    json_header = {"Content-Type": "application/json"}
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + jpeg + b"\r\n--x--\r\n"
    yield "POST", "/v1/predict", file, form
    yield "POST", "/v1/predict", file[:-9], form
    yield "POST", "/v1/predict", jpeg[:900], {}
    yield "POST", "/v1/predict", b"", {}
    yield "POST", "/v1/predict", b"text", {}
    yield "POST", "/v1/predict", b"text", {"Content-Type": "text/html"}
    yield "POST", "/v1/predict", b'{"uri": "gs://elsewhere/x"}', json_header
    yield "POST", "/v1/predict", b"[" * 5000, json_header
    yield "POST", "/v1/predict:batch", json.dumps({"instances": [{"b64": text}, {"b64": "AAAA"}]}).encode(), json_header
    yield "POST", "/v1/predict?explain=perhaps", jpeg, {}
    yield "POST", "/v1/models/scanflow:predict", json.dumps({"instances": [{"b64": text}]}).encode(), json_header
    yield "POST", "/v1/models/other:predict", b"{}", json_header
    yield "POST", "/v2/models/scanflow/infer", b'{"inputs": [{}]}', json_header
    yield "PUT", "/v1/predict", jpeg, {}
    yield "GET", "/v1/predict", b"", {}
    yield "GET", "/../../etc/passwd", b"", {}
    yield "GET", "/v2/models/scanflow", b"", {}
    yield "POST", "/v1/predict", b"", {"Content-Length": "99999999999"}


def send(server: Server, mix: list, count: int) -> Counter:
    """Send requests of the mix from several connections; answers the statuses."""
    statuses, order = Counter(), random.Random(7).choices(mix, k=count)

    def call(part: list) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=180)
        for method, path, body, headers in part:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
        connection.close()

    callers = [threading.Thread(target=call, args=(order[number::CALLERS],)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return statuses


def peak_mb(server: Server) -> float:
    """Most memory that the process ever held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
