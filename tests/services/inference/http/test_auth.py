"""Tokens are checked against keys that a real server publishes."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from local.stack.processes import free_port
from services.inference.app import create_app
from services.inference.settings import Settings

ISSUER, AUDIENCE = "https://issuer.example", "scanflow"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def jwks_url(key: rsa.RSAPrivateKey) -> Iterator[str]:
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "one", "use": "sig"}

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": [public]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()


@pytest.fixture(scope="module")
def guarded(jwks_url: str) -> Iterator[TestClient]:
    settings = Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=jwks_url)
    with TestClient(create_app(settings)) as client:
        yield client


def token(key: rsa.RSAPrivateKey, **changes: object) -> dict[str, str]:
    claims = {"sub": "ward-3", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(claims, key, 'RS256', {'kid': 'one'})}"}


def test_a_valid_token_lets_in(guarded: TestClient, key: rsa.RSAPrivateKey, jpeg: bytes):
    assert guarded.post("/v1/predict", content=jpeg, headers=token(key)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"aud": None},
        {"nbf": 10**11},
    ],
)
def test_other_tokens_do_not(guarded: TestClient, key: rsa.RSAPrivateKey, jpeg: bytes, changes: dict):
    refused = guarded.post("/v1/predict", content=jpeg, headers=token(key, **changes))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["type"] == "urn:scanflow:problem:unauthorised"


def test_neither_do_other_keys_other_algorithms_or_no_token(guarded: TestClient, jpeg: bytes):
    other = rsa.generate_private_key(65537, 2048)
    claims = {"sub": "x", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}
    unsigned = jwt.encode(claims, None, "none", {"kid": "one"})
    for headers in ({}, token(other), {"Authorization": f"Bearer {unsigned}"}, {"Authorization": "Basic eDp5"}):
        assert guarded.post("/v1/predict", content=jpeg, headers=headers).status_code == 401
        assert guarded.get("/docs", headers=headers).status_code == 401


def test_keys_that_cannot_be_read_are_a_reason_to_try_again(key: rsa.RSAPrivateKey, jpeg: bytes):
    nowhere = Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=f"http://127.0.0.1:{free_port()}/keys")
    with TestClient(create_app(nowhere)) as client:
        answer = client.post("/v1/predict", content=jpeg, headers=token(key))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "urn:scanflow:problem:keys-unavailable"


def test_probes_need_no_token(guarded: TestClient):
    assert [guarded.get(path).status_code for path in ("/healthz", "/readyz", "/v2/health/ready")] == [200] * 3
