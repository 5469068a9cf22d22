"""Driven by tritonclient, the protocol's public client."""

import base64
import json

import numpy as np
import pytest
import tritonclient.http as triton
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare


@pytest.fixture(scope="module")
def remote(server):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as remote:
        yield remote


def files(*contents: bytes, binary: bool = True) -> list[triton.InferInput]:
    image = triton.InferInput("image", [len(contents)], "BYTES")
    values = contents if binary else [base64.b64encode(content) for content in contents]
    return [image.set_data_from_numpy(np.array(values, object), binary_data=binary)]


def test_health_and_metadata(remote):
    assert remote.is_server_live()
    assert remote.is_server_ready()
    assert remote.is_model_ready("scanflow")
    assert "binary_tensor_data" in remote.get_server_metadata()["extensions"]
    metadata = remote.get_model_metadata("scanflow")
    assert [tensor["datatype"] for tensor in metadata["inputs"]] == ["BYTES", "FP32"]
    assert remote.is_model_ready("scanflow", metadata["versions"][0])
    assert not remote.is_model_ready("scanflow", "never-released")


@pytest.mark.parametrize("binary", [True, False])
def test_files_are_predicted(remote, client: TestClient, jpeg: bytes, binary: bool):
    outputs = [triton.InferRequestedOutput(name, binary) for name in ("probability", "prediction", "heat_map")]
    result = remote.infer("scanflow", files(jpeg, jpeg, binary=binary), outputs=outputs, request_id="7")
    answer = client.post("/v1/predict", content=jpeg).json()
    assert result.get_response()["id"] == "7"
    assert result.as_numpy("probability") == pytest.approx([answer["probability"]] * 2)
    assert result.as_numpy("heat_map").shape == (2, 16, 16)
    words = [word if isinstance(word, str) else word.decode() for word in result.as_numpy("prediction")]
    assert words == [answer["prediction"]] * 2


def test_prepared_scans_are_predicted(remote, client: TestClient, jpeg: bytes):
    tensor = prepare(decode(jpeg).pages[0])[np.newaxis]
    scan = triton.InferInput("scan", list(tensor.shape), "FP32")
    answer = client.post("/v1/predict", content=jpeg).json()
    for binary in (True, False):
        scan.set_data_from_numpy(tensor, binary_data=binary)
        result = remote.infer("scanflow", [scan])
        assert result.as_numpy("probability") == pytest.approx([answer["probability"]])


@pytest.mark.parametrize("content", [b"text", b"", b"II*\0" + bytes(30)])
def test_a_bad_file_is_an_error_with_a_sentence(remote, content: bytes):
    with pytest.raises(InferenceServerException) as error:
        remote.infer("scanflow", files(content))
    assert error.value.status() in ("415", "422")
    assert error.value.message().endswith(".")


IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}
SCAN = {"name": "scan", "datatype": "FP32", "shape": [1, 128, 128, 3]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": [3]},
        {"inputs": [{}]},
        {"inputs": [IMAGE]},
        {"inputs": [IMAGE | {"data": [3]}]},
        {"inputs": [IMAGE | {"data": ["*"]}]},
        {"inputs": [IMAGE | {"data": ["", ""]}]},
        {"inputs": [IMAGE | {"shape": [-1], "data": []}]},
        {"inputs": [IMAGE | {"parameters": {"binary_data_size": 7}}]},
        {"inputs": [SCAN]},
        {"inputs": [SCAN | {"data": [0.5]}]},
        {"inputs": [SCAN | {"data": [["a"], 3]}]},
        {"inputs": [SCAN | {"data": [2.0] * 49152}]},
        {"inputs": [SCAN | {"data": [1e999] * 49152}]},
        {"inputs": [SCAN | {"shape": [10**30, 128, 128, 3], "data": []}]},
        {"inputs": [IMAGE | {"data": [""]}], "outputs": [{"name": "weather"}]},
    ],
)
def test_a_request_not_formed_as_the_protocol_says_is_a_problem(client: TestClient, body: dict):
    response = client.post("/v2/models/scanflow/infer", content=json.dumps(body))
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize("header", ["-1", "x", "999", "0"])
def test_a_wrong_length_of_the_json_is_a_problem(client: TestClient, header: str):
    headers = {"Inference-Header-Content-Length": header}
    assert client.post("/v2/models/scanflow/infer", content=b"{}", headers=headers).status_code == 400


def test_other_versions_are_not_found(client: TestClient):
    assert client.post("/v2/models/scanflow/versions/none/infer", json={}).status_code == 404
    assert client.get("/v2/models/scanflow/versions/none").status_code == 404
