"""Errors are problem details of a stable type that say what to do."""

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.http.problems import PROBLEMS, problem_of
from services.inference.settings import Settings
from shared.errors import Reason, RejectedScan

PROBLEM = "application/problem+json"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_to_reject_a_file_has_a_problem_that_says_what_to_do(reason: Reason):
    problem = problem_of(RejectedScan(reason))
    assert problem.status in (413, 415, 422)
    assert problem.detail.count(". ") >= 1


@pytest.mark.parametrize("error", PROBLEMS)
def test_every_problem_says_what_to_do(error: type[Exception]):
    assert PROBLEMS[error].detail.count(". ") >= 1 or PROBLEMS[error].detail.startswith("Send ")


@pytest.mark.parametrize(
    ("content", "headers", "status", "slug"),
    [
        (b"", {}, 422, "empty"),
        (b"hello", {}, 415, "not-an-image"),
        (b"GIF89a" + bytes(40), {}, 415, "unsupported-format"),
        (b"hello", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b"{", {"Content-Type": "application/json"}, 400, "malformed-request"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400, "malformed-request"),
        (b'{"b64": "*"}', {"Content-Type": "application/json"}, 400, "malformed-request"),
        (b'{"uri": "gs://elsewhere/x.png"}', {"Content-Type": "application/json"}, 403, "bucket-not-allowed"),
        (b"hello", {"Content-Type": "multipart/form-data"}, 400, "malformed-request"),
        (b"hello", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "malformed-request"),
        (b"--x\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "malformed-request"),
        (b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "malformed-request"),
    ],
)
def test_bad_requests_are_problems_of_a_stable_type(
    client: TestClient, content: bytes, headers: dict, status: int, slug: str
):
    response = client.post("/v1/predict", content=content, headers=headers)
    assert response.headers["content-type"] == PROBLEM
    assert (response.status_code, response.json()["type"]) == (status, f"urn:scanflow:problem:{slug}")
    assert response.json()["status"] == status


def test_unknown_routes_methods_and_parameters_are_problems_too(client: TestClient, jpeg: bytes):
    answers = [client.get("/nowhere"), client.get("/v1/predict"), client.post("/v1/predict?explain=much", content=jpeg)]
    assert [answer.status_code for answer in answers] == [404, 405, 400]
    assert {answer.headers["content-type"] for answer in answers} == {PROBLEM}


def test_an_error_that_nobody_foresaw_is_a_problem_without_its_words():
    app = create_app(Settings())
    router = APIRouter()

    @router.post("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("Doe^Jane")

    app.include_router(router)
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert answer.json()["type"] == "urn:scanflow:problem:internal-error"
    assert "Doe" not in answer.text
    assert 'scanflow_responses_total{status="500"}' in client.get("/metrics").text
