"""score_scan: the inference service's answer as a row; a service that does not answer is asked again."""

from dataclasses import asdict

import pytest

from local.samples import encode, healthy_slices
from local.stack.processes import free_port
from local.stack.system import BUCKETS, Stack
from shared.gcp import bigquery
from tests.functions.conftest import Cloud, Push, push
from tests.support.events import stored_scan


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
