"""ID tokens come from the metadata server once, not at every call, and never travel over plain HTTP."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.auth.compute_engine._metadata as google_metadata
import pytest
from google.auth.transport.requests import AuthorizedSession, Request

from shared.gcp import auth

URL = "https://inference.example"


def token() -> str:
    """A token that expires in an hour, unsigned: its reader looks at its expiry alone."""
    parts = ({"alg": "none"}, {"exp": int(time.time()) + 3600, "aud": URL})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@pytest.fixture
def identity_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths at which a metadata server of our own was asked for an ID token."""
    asked: list[str] = []

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/identity" in self.path:
                asked.append(self.path)
            body = token().encode() if "/identity" in self.path else b'{"email": "function@example", "scopes": []}'
            self.send_response(200)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/text" if "/identity" in self.path else "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", host)
    auth._credentials.cache_clear()
    yield asked
    auth._credentials.cache_clear()
    server.shutdown()


def test_token_is_fetched_once_for_many_calls(identity_calls: list[str]) -> None:
    session = auth.session(URL)
    assert isinstance(session, AuthorizedSession)
    headers: list[dict[str, str]] = [{}, {}, {}]
    for each in headers:
        session.credentials.before_request(Request(), "POST", URL, each)
    assert {each["authorization"].partition(" ")[0] for each in headers} == {"Bearer"}
    assert len(identity_calls) == 1


def test_plain_http_carries_no_token(identity_calls: list[str]) -> None:
    assert not isinstance(auth.session("http://127.0.0.1:1"), AuthorizedSession)
    assert identity_calls == []
