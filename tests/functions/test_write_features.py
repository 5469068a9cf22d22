"""write_features: the statistics of exactly what training and serving see, beside the embedding of the score."""

from dataclasses import asdict

import numpy as np
import pytest

from local.samples import encode, healthy_slices
from local.stack.provision import RELEASE
from local.stack.system import BUCKETS
from shared.events import ScanScored
from shared.gcp import bigquery
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import read_release
from tests.functions.conftest import Cloud, Push, push
from tests.support.events import scan_scored, stored_scan

TABLES = ("features",)


@pytest.fixture(scope="module")
def write_features(cloud: Cloud) -> Push:
    return push("write_features")


def scored(content: bytes, **changes: object) -> ScanScored:
    """The event of a scan's score by the bundled release."""
    model = read_release(RELEASE)
    embedding = model.predict(prepare(next(iter(decode(content).pages)))).embedding.tolist()
    event = stored_scan(BUCKETS["scans"], content)
    facts = {"scan_id": event.scan_id, "bucket": event.bucket, "name": event.name, "embedding": embedding}
    return scan_scored(**facts | {"model_version": model.card.version} | changes)


def rows(event: ScanScored) -> list[dict]:
    """The scan's rows."""
    return bigquery.query("SELECT * FROM {dataset}.features WHERE scan_id = @id", id=event.scan_id)


def test_features_are_those_of_the_prepared_scan(cloud: Cloud, write_features: Push) -> None:
    content = encode(healthy_slices()[5], "PNG")
    event = scored(content)
    for _ in range(2):
        assert write_features(asdict(event), event=event.TOPIC) == 200
    (row,) = rows(event)
    tensor = prepare(next(iter(decode(content).pages)))
    assert row["mean"] == pytest.approx(float(tensor.mean()), abs=1e-6)
    assert row["std"] == pytest.approx(float(tensor.std()), abs=1e-6)
    np.testing.assert_allclose(row["embedding"], event.embedding, rtol=1e-6)
    assert event.model_version in row["feature_version"]


def test_score_without_an_embedding_is_left_to_reconcile(cloud: Cloud, write_features: Push) -> None:
    event = scored(encode(healthy_slices()[7], "PNG"), embedding=None)
    assert write_features(asdict(event), event=event.TOPIC) == 200
    assert rows(event) == []


def test_scan_that_is_gone_is_retried(cloud: Cloud, write_features: Push) -> None:
    event = scored(encode(healthy_slices()[6], "PNG"), name="Cancer/gone.png")
    assert write_features(asdict(event), event=event.TOPIC) == 500
