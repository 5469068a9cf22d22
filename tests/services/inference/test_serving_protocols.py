"""Requests as TensorFlow Serving's and Vertex AI's documents record them: neither has a public REST client on PyPI."""

import base64

from starlette.testclient import TestClient

from services.inference.main import create_app
from services.inference.settings import Settings


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


def test_vertex_ai_names_the_routes(jpeg: bytes, monkeypatch):
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/7/deployedModels/8:predict")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8")
    with TestClient(create_app(Settings())) as client:
        assert client.get("/v1/endpoints/7/deployedModels/8").status_code == 200
        body = {"instances": [b64(jpeg)], "parameters": {"explain": True}}
        response = client.post("/v1/endpoints/7/deployedModels/8:predict", json=body)
        assert len(response.json()["predictions"]) == 1
        assert "heat_map" in response.json()["predictions"][0]
        bad = client.post("/v1/endpoints/7/deployedModels/8:predict", json=body | {"parameters": []})
        assert bad.status_code == 200  # an empty list says nothing, as null does
        assert client.post("/v1/endpoints/7/deployedModels/8:predict", json={}).status_code == 400
