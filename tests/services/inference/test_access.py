"""Tokens are checked against keys that a real server publishes; limits by a real socket."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from local.stack.processes import free_port
from services.inference.main import create_app
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


def test_callers_beyond_their_rate_wait(jpeg: bytes):
    with TestClient(create_app(Settings(rate_per_second=0.5))) as client:
        first, second = (client.post("/v1/predict", content=jpeg) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 429)
        assert 1 <= int(second.headers["retry-after"]) <= 2
        assert client.get("/readyz").status_code == 200


def test_cross_origin_calls_are_closed_unless_configured(client: TestClient):
    asking = {"Origin": "https://ward.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/predict", headers=asking).headers
    with TestClient(create_app(Settings(cors_origins=("https://ward.example",)))) as opened:
        allowed = opened.options("/v1/predict", headers=asking)
        assert allowed.headers["access-control-allow-origin"] == "https://ward.example"
        other = opened.options("/v1/predict", headers=asking | {"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_bodies_beyond_the_limit_are_refused_whether_announced_or_not(jpeg: bytes):
    with TestClient(create_app(Settings(max_request_bytes=1000))) as client:
        announced = client.post("/v1/predict", content=bytes(1001))
        streamed = client.post("/v1/predict", content=iter([bytes(600), bytes(600)]))
        assert [answer.status_code for answer in (announced, streamed)] == [413, 413]
        assert client.post("/v1/predict", content=bytes(1000)).status_code == 415
        assert "scanflow_body_bytes 0.0" in client.get("/metrics").text


def test_bodies_that_together_do_not_fit_into_memory_are_refused(jpeg: bytes):
    with TestClient(create_app(Settings(max_body_memory=1000))) as client:
        assert client.post("/v1/predict", content=bytes(1001)).status_code == 503
        assert client.post("/v1/predict", content=iter([bytes(600), bytes(600)])).status_code == 503
        assert client.post("/v1/predict", content=bytes(1000)).status_code == 415


def test_a_body_that_trickles_in_is_cut_off_and_others_are_served_meanwhile(server, jpeg: bytes):
    host, port = server.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert requests.post(f"{server.url}/v1/predict", data=jpeg, timeout=30).status_code == 200
    for connection in slow:
        answer = b""
        while chunk := connection.recv(4096):  # until the service closes the connection
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 408")
        connection.close()


def test_a_head_that_never_ends_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as silent,
        socket.create_connection((host, int(port)), timeout=30) as slow,
    ):
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-")
        assert slow.recv(1) == b""  # the service closes the connection
        assert silent.recv(1) == b""


def test_a_head_of_megabytes_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as endless, pytest.raises(ConnectionError):
        endless.sendall(b"GET / HTTP/1.1\r\nX: ")
        while True:
            endless.sendall(bytes([120]) * 65536)
