"""The service as a whole: what it logs, counts and says of itself."""

import json
from pathlib import Path

from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.http import probes
from services.inference.protocols import open_inference, scanflow, tensorflow_serving
from services.inference.served_models import BUNDLED
from services.inference.settings import Settings
from shared.ml.model import read_release
from tests.support.servers import Server


def test_metrics_count_predictions_stages_and_name_the_release(client: TestClient, jpeg: bytes):
    client.post("/v1/predict", content=jpeg)
    text = client.get("/metrics").text
    version = read_release(BUNDLED).card.version
    assert f'scanflow_model{{version="{version}"}} 1.0' in text
    for stage in ("request", "queue", "decode", "prepare", "network"):
        assert f'scanflow_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'scanflow_responses_total{status="200"}' in text
    assert "scanflow_in_flight 0.0" in text
    assert "scanflow_body_bytes 0.0" in text


def test_health_and_readiness(client: TestClient):
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_readiness_waits_for_the_release():

    unstarted = TestClient(create_app(Settings()))  # outside `with`: its lifespan does not run
    assert unstarted.get("/healthz").status_code == 200
    assert unstarted.get("/readyz").status_code == 503
    assert unstarted.post("/v1/predict", content=b"x").status_code == 503
    assert unstarted.get("/readyz").headers["retry-after"] == "1"


def test_the_release_being_served_is_logged(server: Server, log: Path):
    version = read_release(BUNDLED).card.version
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert ("INFO", f"serving release {version}") in [(line["severity"], line["message"]) for line in lines]


def test_no_two_routes_answer_the_same_request():
    routers = (scanflow.router, probes.router, tensorflow_serving.router, open_inference.router)
    routes = [(method, route.path) for router in routers for route in router.routes for method in route.methods]
    assert ("POST", "/v1/predict") in routes
    assert len(routes) == len(set(routes))


def test_every_parameter_is_taken_as_the_openapi_document_types_it(client: TestClient, jpeg: bytes):
    parameters = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["parameters"]
    assert {parameter["name"]: parameter["schema"]["type"] for parameter in parameters} == {
        "explain": "boolean",
        "embedding": "boolean",
        "source": "string",
        "unit": "string",
    }
    for value in ("yes", "true", "1", "on"):
        assert "heat_map" in client.post(f"/v1/predict?explain={value}", content=jpeg).json()
    for value in ("no", "false", "0", "off"):
        assert "heat_map" not in client.post(f"/v1/predict?explain={value}", content=jpeg).json()
