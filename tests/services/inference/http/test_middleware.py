"""What a request passes before its route."""

from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.settings import Settings


def test_cross_origin_calls_are_closed_unless_configured(client: TestClient):
    asking = {"Origin": "https://ward.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/predict", headers=asking).headers
    with TestClient(create_app(Settings(cors_origins=("https://ward.example",)))) as opened:
        allowed = opened.options("/v1/predict", headers=asking)
        assert allowed.headers["access-control-allow-origin"] == "https://ward.example"
        other = opened.options("/v1/predict", headers=asking | {"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
