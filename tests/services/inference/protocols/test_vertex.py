"""Requests as Vertex AI's documents record them: it has no public REST client for a container of one's own."""

import base64

import pytest
from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.settings import Settings


def test_vertex_ai_names_the_routes(jpeg: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/7/deployedModels/8:predict")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8")
    with TestClient(create_app(Settings())) as client:
        assert client.get("/v1/endpoints/7/deployedModels/8").status_code == 200
        body = {"instances": [{"b64": base64.b64encode(jpeg).decode()}], "parameters": {"explain": True}}
        response = client.post("/v1/endpoints/7/deployedModels/8:predict", json=body)
        assert len(response.json()["predictions"]) == 1
        assert "heat_map" in response.json()["predictions"][0]
        bad = client.post("/v1/endpoints/7/deployedModels/8:predict", json=body | {"parameters": []})
        assert bad.status_code == 200  # an empty list says nothing, as null does
        assert client.post("/v1/endpoints/7/deployedModels/8:predict", json={}).status_code == 400
