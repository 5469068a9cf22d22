"""write_features: the statistics and the embedding of exactly what training and serving see."""

from dataclasses import asdict

import numpy as np
import pytest

from local.samples import encode, healthy_slices
from local.stack.provision import RELEASE
from local.stack.system import BUCKETS
from shared.gcp import bigquery
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import read_release
from tests.functions.conftest import Cloud, Push, push
from tests.support.events import stored_scan


@pytest.fixture(scope="module")
def write_features(cloud: Cloud) -> Push:
    return push("write_features")


def test_features_are_those_of_the_prepared_scan(cloud: Cloud, write_features: Push) -> None:
    content = encode(healthy_slices()[5], "PNG")
    event = stored_scan(BUCKETS["scans"], content)
    for _ in range(2):
        assert write_features(asdict(event), event=event.TOPIC) == 200
    (row,) = bigquery.query("SELECT * FROM {dataset}.features WHERE scan_id = @id", id=event.scan_id)
    tensor = prepare(next(iter(decode(content).pages)))
    assert row["mean"] == pytest.approx(float(tensor.mean()), abs=1e-6)
    assert row["std"] == pytest.approx(float(tensor.std()), abs=1e-6)
    embedding = read_release(RELEASE).predict(tensor).embedding
    np.testing.assert_allclose(row["embedding"], embedding, rtol=1e-4, atol=1e-5)


def test_scan_that_is_gone_is_retried(cloud: Cloud, write_features: Push) -> None:
    event = stored_scan(BUCKETS["scans"], encode(healthy_slices()[6], "PNG"))
    assert write_features(asdict(event) | {"name": "Cancer/gone.png"}, event=event.TOPIC) == 500
