"""Requests as TensorFlow Serving's documents record them: it has no public REST client on PyPI."""

import base64

from starlette.testclient import TestClient


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def test_tensorflow_serving_predicts_rows(client: TestClient, jpeg: bytes):
    response = client.post("/v1/models/scanflow:predict", json={"instances": [b64(jpeg), {"image": b64(jpeg)}]})
    first, second = response.json()["predictions"]
    assert (
        first["probability"] == second["probability"] == client.post("/v1/predict", content=jpeg).json()["probability"]
    )


def test_tensorflow_serving_errors_carry_their_sentence_in_error(client: TestClient, jpeg: bytes):
    response = client.post("/v1/models/scanflow:predict", json={"instances": [b64(jpeg), b64(b"text")]})
    assert response.status_code == 415
    assert response.json()["error"]
    for body in ({}, {"instances": []}, {"instances": [3]}, {"instances": [{"b64": 3}]}, {"instances": {"b64": ""}}):
        assert client.post("/v1/models/scanflow:predict", json=body).status_code == 400


def test_tensorflow_serving_tells_the_status_and_metadata(client: TestClient):
    (status,) = client.get("/v1/models/scanflow").json()["model_version_status"]
    assert status["state"] == "AVAILABLE"
    assert status["status"] == {"error_code": "OK", "error_message": ""}
    assert client.get("/v1/models/scanflow/metadata").json()["model_spec"] == {
        "name": "scanflow",
        "version": status["version"],
    }
