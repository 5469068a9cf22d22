"""The predictor without HTTP."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.inference.predictor import (
    BucketNotAllowed,
    NoSuchScan,
    PredictionResult,
    Predictor,
    ScanFile,
    SeveralPages,
)
from services.inference.served_models import BUNDLED, NotReady, bundled_release
from services.inference.settings import Settings
from shared.errors import RejectedScan
from shared.ml.model import Model
from shared.ml.release_files import GRAPH_FILE


@pytest.fixture
def predictor() -> Iterator[Predictor]:
    """A predictor that serves a release whose every prediction lies in the band of doubt."""
    predictor = Predictor(Settings(queue_seconds=30, scans_bucket="scans"))
    card = replace(bundled_release().card, uncertain_from=0.0, uncertain_to=1.0, ood_limit=1e9)
    predictor.models.serve(Model(card, (BUNDLED / GRAPH_FILE).read_bytes()))
    yield predictor
    predictor.stop()


def test_a_prediction_in_the_band_of_doubt_is_answered_as_uncertain(predictor: Predictor, jpeg: bytes):
    (response,) = asyncio.run(predictor.predict(ScanFile(jpeg), PredictionResult.response))
    assert response.uncertain
    assert response.uncertain_reason == predictor.models.current.uncertain_reason(
        asyncio.run(predictor.predict_page(ScanFile(jpeg), predictor.models.current)).prediction
    )


def test_pages_come_in_order_whoever_predicts_them(predictor: Predictor, two_pages: bytes):
    responses = asyncio.run(predictor.predict(ScanFile(two_pages), PredictionResult.response))
    assert [response.scan_id[-5:] for response in responses] == ["-0001", "-0002"]


def test_a_file_of_several_pages_is_no_page(predictor: Predictor, two_pages: bytes):
    with pytest.raises(SeveralPages):
        asyncio.run(predictor.predict_page(ScanFile(two_pages), predictor.models.current))


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (ScanFile(b""), RejectedScan),
        (ScanFile(uri="gs://elsewhere/a.png"), BucketNotAllowed),
        (ScanFile(uri="gs://scans-of-others/a.png"), BucketNotAllowed),
        (ScanFile(uri="gs://scans/../secret.png"), NoSuchScan),
    ],
)
def test_what_is_no_scan_of_ours_is_an_error_of_its_own(predictor: Predictor, file: ScanFile, error: type[Exception]):
    with pytest.raises(error):
        asyncio.run(predictor.predict(file, PredictionResult.response))


def test_nothing_is_predicted_before_a_release_is_loaded(jpeg: bytes):
    with pytest.raises(NotReady):
        asyncio.run(Predictor(Settings()).predict(ScanFile(jpeg), PredictionResult.response))
