"""check_drift: the newest scans of the release against its reference, one row a check."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flask.testing import FlaskClient

from local.stack.provision import make_buckets
from shared.clock import now
from shared.gcp import bigquery, registry
from shared.ml import drift_records
from shared.ml.release_files import REFERENCE_FILE
from tests.functions.conftest import Cloud, client

TABLES = ("scans", "predictions", "features", "drift_checks")
ROWS = "SELECT * FROM {dataset}.drift_checks WHERE model_version = @version ORDER BY checked_at"


def scans(n: int, seed: int) -> drift_records.Scans:
    """Scans of two classes, told apart by one of eight directions."""
    rng = np.random.default_rng(seed)
    predicted = np.where(np.arange(n) % 3 == 0, "Non-Cancer", "Cancer")
    embeddings = rng.normal(size=(n, 8)).astype(np.float32)
    return drift_records.Scans(
        embeddings=embeddings,
        predicted=predicted.tolist(),
        attributes={"source": ["ward-1"] * n},
        quality=rng.normal(size=(n, len(drift_records.QUALITY))),
    )


def record_all(version: str, window: drift_records.Scans, series: str | None = None) -> set[str]:
    """Write what the pipeline knows of these scans, together as functions do; return their ids."""
    rows = range(len(window.predicted))
    with ThreadPoolExecutor(len(rows)) as pool:
        return set(pool.map(lambda row: record(version, window, row, series), rows))


def record(version: str, window: drift_records.Scans, row: int, series: str | None) -> str:
    """Write what the pipeline knows of one scan; returns its id."""
    scan_id = uuid.uuid4().hex * 2
    event = {"scan_id": scan_id, "label": "Unlabelled", "source": window.attributes["source"][row], "series_id": series}
    told = {"content_sha256": scan_id, "format": "PNG", "page": 0, "pages": 1, "width": 128, "height": 128, "size": 1}
    times = {"uploaded_at": now(), "accepted_at": now(), "object_name": f"Unlabelled/{scan_id}.png"}
    bigquery.append("scans", event | told | times, key=scan_id)
    answer = {"prediction": window.predicted[row], "probability": 0.9 - row * 1e-4, "threshold": 0.5}
    when = {"uploaded_at": now(), "predicted_at": now()}
    bigquery.append("predictions", {"scan_id": scan_id, "model_version": version} | answer | when, key=scan_id)
    statistics = dict(zip(drift_records.QUALITY, window.quality[row].tolist(), strict=True))
    vectors = {
        "embedding": window.embeddings[row].tolist(),
        "standardised_quantiles": [0.0] * 5,
        "principal_components": [],
    }
    known = {"scan_id": scan_id, "feature_version": f"1+{version}", "label": "Unlabelled", "source": event["source"]}
    bigquery.append("features", known | statistics | vectors, key=scan_id)
    return scan_id


@pytest.fixture
def release(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A current release with a reference of 300 scans."""
    bucket = f"{uuid.uuid4().hex[:8]}-models"
    make_buckets({"models": bucket})
    monkeypatch.setenv("MODELS_BUCKET", bucket)
    version = f"v{uuid.uuid4().hex[:6]}"
    registry.add_version(registry.RELEASES, version, {REFERENCE_FILE: scans(300, seed=0).to_bytes()})
    registry.move_pointer(registry.RELEASES, version, registry.read_pointer(registry.RELEASES))
    yield version
    registry.move_pointer(registry.RELEASES, "another", registry.read_pointer(registry.RELEASES))


@pytest.fixture(scope="module")
def check_drift(cloud: Cloud) -> FlaskClient:
    return client("check_drift", "http")


def test_scans_like_the_reference_are_no_drift(release: str, check_drift: FlaskClient) -> None:
    record_all(release, scans(60, seed=1))
    answer = check_drift.post("/").json
    assert (answer["change"], answer["scans"]) == ("none", 60)
    (row,) = bigquery.query(ROWS, version=release)
    assert row["expected_accuracy"] == pytest.approx(0.9, abs=0.01)
    assert row["foreign_scans"] == []


def test_another_ward_is_found_named_and_dated(release: str, check_drift: FlaskClient) -> None:
    window = scans(60, seed=2)
    window.embeddings[:, :4] += 2
    window.attributes["source"][:] = ["ward-2"] * 60
    known = record_all(release, window)
    first, second = (check_drift.post("/").json for _ in range(2))
    assert (first["change"], first["cause"]) == ("inputs", "source")
    assert second["since"] == first["since"]
    row = bigquery.query(ROWS, version=release)[-1]
    assert row["expected_accuracy"] is None
    assert len(row["foreign_scans"]) == 10
    assert set(row["foreign_scans"]) <= known


def test_a_series_is_one_witness_of_each_class(release: str, check_drift: FlaskClient) -> None:
    record_all(release, scans(30, seed=3), series="one-head")
    assert check_drift.post("/").json["scans"] == 2


def test_before_the_first_release_the_call_fails_and_is_seen_by_the_scheduler(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, check_drift: FlaskClient
) -> None:
    bucket = f"{uuid.uuid4().hex[:8]}-models"
    make_buckets({"models": bucket})
    monkeypatch.setenv("MODELS_BUCKET", bucket)
    assert check_drift.post("/").status_code == 500
