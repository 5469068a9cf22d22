"""Which calibration an answer is made by: a commissioned source's, as long as it is of the served release."""

import base64
import dataclasses
import json
import uuid

import numpy as np
import pytest
from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.predictor import Predictor
from services.inference.settings import Settings
from services.inference.site_calibrations import SiteCalibrations
from services.training.commissioning.withdraw import withdraw
from shared.gcp import storage
from shared.gcp.registry import add_version, calibrations, move_pointer, read_pointer
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model
from shared.ml.site_calibration import CALIBRATION_FILE, SiteCalibration

SOURCE = "ward-3"


@pytest.fixture
def bucket(stack, monkeypatch) -> str:
    name = f"models-{uuid.uuid4().hex[:12]}"
    storage.client().create_bucket(name)
    monkeypatch.setenv("MODELS_BUCKET", name)
    return name


@pytest.fixture
def client(bucket):
    """The service with the bundled release, which this test's bucket does not hold, and a watch on its calibrations."""
    with TestClient(create_app(Settings(model_poll_seconds=0.05))) as client:
        yield client


def put(content: bytes, version: str = "1", source: str = SOURCE) -> None:
    registry = calibrations(source)
    add_version(registry, version, {CALIBRATION_FILE: content})
    move_pointer(registry, version, read_pointer(registry))


def calibration(model: str, **changed: object) -> SiteCalibration:
    known = {"source": SOURCE, "version": "1", "model_version": model, "slope": 1.0, "offset": -30.0, "threshold": 0.5}
    known |= {
        "uncertain_from": 0.0,
        "uncertain_to": 0.1,
        "scans": 30,
        "tumours": 12,
        "created_at": "2026-11-26T00:00:00",
    }
    return SiteCalibration(**known | changed)


def served(client: TestClient) -> Model:
    predictor: Predictor = client.app.state.predictor
    return predictor.models.current


def taken_over(client: TestClient) -> SiteCalibrations:
    """Let the service look at the bucket now instead of in a moment."""
    sites: SiteCalibrations = client.app.state.predictor.sites
    sites.refresh()
    return sites


def test_a_commissioned_source_is_answered_by_its_own_calibration_and_others_by_the_releases(client, jpeg):
    put(calibration(served(client).card.version).to_json())
    taken_over(client)
    plain = client.post("/v1/predict", content=jpeg).json()
    other = client.post("/v1/predict?source=ward-4", content=jpeg).json()
    own = client.post(f"/v1/predict?source={SOURCE}", content=jpeg).json()
    assert (plain["calibration"], other["calibration"], own["calibration"]) == ("release", "release", "ward-3/1")
    assert other["probability"] == plain["probability"]
    assert own["probability"] < 1e-6 < plain["probability"]  # an offset of -30
    assert (own["threshold"], plain["threshold"]) == (0.5, served(client).card.threshold)
    assert own["ood_score"] == plain["ood_score"]


def test_a_sites_band_of_doubt_is_named_after_it(client, two_pages):
    known = served(client)
    known.card = dataclasses.replace(known.card, ood_limit=1e9)  # drawn heads are unlike any real one
    put(calibration(known.card.version).to_json())
    taken_over(client)
    pages = client.post(f"/v1/predict?source={SOURCE}", content=two_pages).json()["scans"]
    assert [page["prediction"] for page in pages] == ["Non-Cancer"] * 2
    assert all("that ward-3 was commissioned by" in page["uncertain_reason"] for page in pages)


def test_another_release_does_not_use_it_and_says_so(client, jpeg):
    put(calibration("an-older-one").to_json())
    taken_over(client)
    plain = client.post("/v1/predict", content=jpeg).json()
    answer = client.post(f"/v1/predict?source={SOURCE}", content=jpeg).json()
    assert (answer["calibration"], answer["probability"]) == ("release", plain["probability"])
    assert "commissioned for release an-older-one" in answer["calibration_note"]
    assert "calibration_note" not in plain


def test_a_batch_and_vertex_take_the_source_too(bucket, jpeg, monkeypatch):
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/vertex")
    file = {"b64": base64.b64encode(jpeg).decode()}
    with TestClient(create_app(Settings(model_poll_seconds=0.05))) as client:
        put(calibration(served(client).card.version).to_json())
        taken_over(client)
        line = json.loads(client.post(f"/v1/predict:batch?source={SOURCE}", json={"instances": [file]}).text)
        instances = {"instances": [file, file | {"source": "ward-4"}], "parameters": {"source": SOURCE}}
        vertex = client.post("/vertex", json=instances).json()["predictions"]
    assert line["result"]["calibration"] == "ward-3/1"
    assert [answer["calibration"] for answer in vertex] == ["ward-3/1", "release"]  # an instance's own source stands


def test_an_instance_of_tensorflow_serving_names_its_source(client, jpeg):
    put(calibration(served(client).card.version).to_json())
    taken_over(client)
    file = {"b64": base64.b64encode(jpeg).decode()}
    instances = [file, file | {"source": SOURCE}, {"image": file, "source": SOURCE}]
    answers = client.post("/v1/models/scanflow:predict", json={"instances": instances}).json()["predictions"]
    assert [answer["calibration"] for answer in answers] == ["release", "ward-3/1", "ward-3/1"]
    one = client.post("/v1/predict", json=file | {"source": SOURCE}).json()
    assert one["probability"] == answers[1]["probability"] == answers[2]["probability"] < answers[0]["probability"]


@pytest.mark.parametrize("kind", ["image", "scan"])
def test_a_request_of_the_open_inference_protocol_names_its_source(client, jpeg, kind):
    put(calibration(served(client).card.version).to_json())
    taken_over(client)
    if kind == "image":
        tensor = {"datatype": "BYTES", "shape": [1], "data": [base64.b64encode(jpeg).decode()]}
    else:
        scan = prepare(decode(jpeg).pages[0])[np.newaxis]
        tensor = {"datatype": "FP32", "shape": list(scan.shape), "data": scan.ravel().tolist()}
    asked = {"inputs": [tensor | {"name": kind}], "outputs": [{"name": "calibration"}, {"name": "probability"}]}
    plain = client.post("/v2/models/scanflow/infer", json=asked).json()["outputs"]
    own = client.post("/v2/models/scanflow/infer", json=asked | {"parameters": {"source": SOURCE}}).json()["outputs"]
    assert (plain[0]["data"], own[0]["data"]) == (["release"], ["ward-3/1"])
    assert own[1]["data"][0] < 1e-6 < plain[1]["data"][0]


@pytest.mark.parametrize("name", ["Ward 3", "../etc", "a" * 40])
def test_a_source_that_is_no_name_is_a_malformed_request(client, jpeg, name):
    file = {"b64": base64.b64encode(jpeg).decode()}
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [file["b64"]]}
    for answer in (
        client.post("/v1/predict", params={"source": name}, content=jpeg),
        client.post("/v1/models/scanflow:predict", json={"instances": [file | {"source": name}]}),
        client.post("/v2/models/scanflow/infer", json={"inputs": [image], "parameters": {"source": name}}),
    ):
        assert answer.status_code == 400
        assert answer.json()["detail"]


def test_a_newer_version_takes_over_and_one_that_is_none_is_not_used(client):
    release = served(client).card.version
    put(calibration(release).to_json())
    assert taken_over(client).of(SOURCE, release).name == "ward-3/1"
    put(calibration(release, version="2").to_json(), "2")
    assert taken_over(client).of(SOURCE, release).name == "ward-3/2"
    put(b'{"source": "ward-3"}', "3")
    assert taken_over(client).of(SOURCE, release).name == "release"


def test_a_withdrawn_calibration_is_dropped_and_a_newer_one_taken_over(client, jpeg):
    release = served(client).card.version
    put(calibration(release).to_json())
    taken_over(client)
    withdraw(SOURCE)
    taken_over(client)
    own, plain = (client.post("/v1/predict", params={"source": name}, content=jpeg).json() for name in (SOURCE, ""))
    assert (own["calibration"], own["probability"]) == ("release", plain["probability"])
    assert "calibration_note" not in own
    put(calibration(release, version="2").to_json(), "2")
    assert taken_over(client).of(SOURCE, release).name == "ward-3/2"


def test_a_bucket_that_does_not_answer_leaves_what_is_known(client, monkeypatch):
    release = served(client).card.version
    put(calibration(release).to_json())
    taken_over(client)
    monkeypatch.setenv("MODELS_BUCKET", "no-such-bucket-anywhere")
    assert taken_over(client).of(SOURCE, release).name == "ward-3/1"
