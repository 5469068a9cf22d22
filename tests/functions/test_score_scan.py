"""score_scan: the inference service's answer as a row; a service that does not answer is asked again."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.samples import encode, healthy_slices
from local.stack.processes import free_port
from local.stack.system import BUCKETS, Stack
from shared.gcp import bigquery, storage
from tests.functions.conftest import Cloud, Push, push
from tests.services.inference.conftest import running
from tests.support.events import stored_scan
from tests.support.releases import point, release

TABLES = ("predictions",)


@contextmanager
def answering(answers: dict[str, tuple[int, dict]]) -> Iterator[str]:
    """A service that gives each path its status and JSON; yields its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answers[self.path.partition("?")[0]]
            content = json.dumps(body).encode()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def score_scan(cloud: Cloud, stack: Stack) -> Push:
    return push("score_scan")


def test_scan_is_scored_once_a_model_version(
    cloud: Cloud, score_scan: Push, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERENCE_URL", stack.url("inference"))
    event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[2], "PNG"), series_id="8" * 64)
    for _ in range(2):
        assert score_scan(asdict(event), event=event.TOPIC) == 200
    (row,) = bigquery.query("SELECT * FROM {dataset}.predictions WHERE scan_id = @id", id=event.scan_id)
    assert 0 <= row["probability"] <= 1
    assert row["prediction"] in {"Cancer", "Non-Cancer", "Not a brain MRI"}
    assert row["model_version"]
    published = cloud.pull("scan-scored")
    assert {(each["bucket"], each["name"], len(each["embedding"]) > 100) for each in published} == {
        (event.bucket, event.name, True)  # so that write_features need not run the network
    }
    assert {(each["scan_id"], each["series_id"], each["probability"]) for each in published} == {
        (event.scan_id, "8" * 64, row["probability"])
    }


def test_unreachable_service_is_retried_and_leaves_no_row(
    cloud: Cloud, score_scan: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERENCE_URL", f"http://127.0.0.1:{free_port()}")
    event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[3], "PNG"))
    assert score_scan(asdict(event), event=event.TOPIC) == 500
    assert not bigquery.query("SELECT scan_id FROM {dataset}.predictions WHERE scan_id = @id", id=event.scan_id)


def test_the_challengers_answer_is_a_row_that_no_view_shows(
    cloud: Cloud, score_scan: Push, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = storage.client().create_bucket(f"models-{uuid.uuid4().hex[:8]}")
    for version in ("old", "new"):
        release(bucket, version)
    point(bucket, "old", challenger="new", share=0)
    with running(
        tmp_path / "log", QUEUE_SECONDS="30", MODELS_BUCKET=bucket.name, SCANS_BUCKET=BUCKETS["scans"]
    ) as server:
        event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[4], "PNG"))
        monkeypatch.setenv("INFERENCE_URL", server.url)
        assert score_scan(asdict(event), event=event.TOPIC) == 200
    sql = "SELECT model_version, role, source FROM {dataset}.%s WHERE scan_id = @id ORDER BY model_version"
    rows = bigquery.query(sql % "predictions_raw", id=event.scan_id)
    assert [(row["model_version"], row["role"]) for row in rows] == [("new", "challenger"), ("old", "champion")]
    assert {row["source"] for row in rows} == {event.source}
    assert [row["role"] for row in bigquery.query(sql % "predictions", id=event.scan_id)] == ["champion"]
    assert [each["role"] for each in cloud.pull("scan-scored") if each["scan_id"] == event.scan_id] == ["champion"]


def test_a_challenger_that_does_not_answer_fails_no_scan(
    cloud: Cloud, score_scan: Push, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"model_version": "old", "prediction": "Cancer", "probability": 0.9, "threshold": 0.5, "embedding": [0.0]}
    answer |= {"challenger_version": "new", "role": "champion", "types": {}}
    with answering({"/v1/predict": (200, answer), "/v1/challenger": (500, {})}) as url:
        monkeypatch.setenv("INFERENCE_URL", url)
        event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[5], "PNG"))
        assert score_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT role FROM {dataset}.predictions_raw WHERE scan_id = @id", id=event.scan_id)
    assert [row["role"] for row in rows] == ["champion"]
