"""Scanflow's own routes."""

import base64
import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import requests
from PIL import Image
from starlette.testclient import TestClient

from services.inference.served_models import BUNDLED
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import crop_box, prepare
from shared.ml.model import read_release
from shared.ml.prediction import parse_predictions
from tests.support.heads import encoded, head
from tests.support.servers import Server


def test_answer_is_what_decoding_preparing_and_the_released_model_say(client: TestClient, jpeg: bytes):
    model = read_release(BUNDLED)
    prediction = model.predict(prepare(decode(jpeg).pages[0]))
    answer = client.post("/v1/predict", files={"file": ("scan.jpg", jpeg)}).json()
    assert answer["probability"] == prediction.probability
    assert answer["prediction"] == model.predicted_class(prediction)
    assert answer["types"] == prediction.types
    assert answer["ood_score"] == prediction.ood_score
    assert answer["threshold"] == model.card.threshold
    assert answer["model_version"] == model.card.version
    assert answer["scan_id"] == hashlib.sha256(jpeg).hexdigest()
    assert answer["timings_ms"].keys() == {"decode", "prepare", "network"}


def test_a_form_a_raw_body_and_base64_are_answered_alike(client: TestClient, jpeg: bytes):
    text = base64.b64encode(jpeg).decode()
    answers = [
        client.post("/v1/predict", files={"file": ("scan.jpg", jpeg, "image/jpeg")}).json(),
        client.post("/v1/predict", content=jpeg, headers={"Content-Type": "image/jpeg"}).json(),
        client.post("/v1/predict", content=jpeg).json(),
        client.post("/v1/predict", json={"b64": text}).json(),
    ]
    for answer in answers:
        del answer["timings_ms"]
    assert all(answer == answers[0] for answer in answers)


def test_heat_map_is_sent_on_request_only(client: TestClient, jpeg: bytes):
    assert "heat_map" not in client.post("/v1/predict", content=jpeg).json()
    explained = client.post("/v1/predict?explain=true", content=jpeg).json()
    prediction = read_release(BUNDLED).predict(prepare(decode(jpeg).pages[0]))
    assert np.array_equal(np.float32(explained["heat_map"]["values"]), prediction.heat_map)
    page = Image.open(io.BytesIO(base64.b64decode(explained["heat_map"]["image_png"])))
    assert np.array_equal(np.asarray(page), decode(jpeg).pages[0])
    left, top, side = crop_box(decode(jpeg).pages[0])
    assert explained["heat_map"]["crop_box"] == {"left": left, "top": top, "side": side}


def test_a_large_page_is_sent_at_screen_size_and_the_crop_box_with_it(client: TestClient):
    content = encoded(head(2048, 2048))
    heat_map = client.post("/v1/predict?explain=true", content=content).json()["heat_map"]
    page = Image.open(io.BytesIO(base64.b64decode(heat_map["image_png"])))
    left, top, side = crop_box(decode(content).pages[0])
    assert page.size == (1024, 1024)
    assert heat_map["crop_box"] == {"left": left / 2, "top": top / 2, "side": side / 2}


def test_the_embedding_is_sent_on_request_only(client: TestClient, jpeg: bytes):
    assert "embedding" not in client.post("/v1/predict", content=jpeg).json()
    answer = client.post("/v1/predict?embedding=true", content=jpeg).json()
    prediction = read_release(BUNDLED).predict(prepare(decode(jpeg).pages[0]))
    assert np.array_equal(np.float32(answer["embedding"]), prediction.embedding)


def test_clients_read_the_answer_back(client: TestClient, jpeg: bytes, two_pages: bytes):
    for content, pages in ((jpeg, 1), (two_pages, 2)):
        answer = client.post("/v1/predict?explain=true&embedding=true", content=content).json()
        predictions = parse_predictions(answer)
        assert len(predictions) == pages
        left_out = {"uncertain_reason": None, "calibration_note": None, "challenger_version": None}
        assert [asdict(one) for one in predictions] == [left_out | scan for scan in answer.get("scans", [answer])]


def test_every_page_of_a_file_is_answered_in_order(client: TestClient, two_pages: bytes):
    scans = client.post("/v1/predict", content=two_pages).json()["scans"]
    whole = hashlib.sha256(two_pages).hexdigest()
    assert [scan["scan_id"] for scan in scans] == [f"{whole}-0001", f"{whole}-0002"]
    model = read_release(BUNDLED)
    expected = [model.predict(prepare(page)).probability for page in decode(two_pages).pages]
    assert [scan["probability"] for scan in scans] == expected


def test_batch_answers_result_or_error_in_order(client: TestClient, jpeg: bytes, two_pages: bytes):
    contents = [jpeg, b"no image", two_pages, b"", jpeg]
    instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
    instances.append({"uri": "gs://somebody-elses/scan.png"})
    response = client.post("/v1/predict:batch", json={"instances": instances})
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [line["index"] for line in lines] == list(range(6))
    assert [line["error"]["status"] if "error" in line else 200 for line in lines] == [200, 415, 200, 422, 200, 403]
    assert len(lines[2]["result"]["scans"]) == 2
    assert lines[0]["result"]["probability"] == lines[4]["result"]["probability"]


def test_batch_takes_a_form_of_many_files(client: TestClient, jpeg: bytes):
    response = client.post("/v1/predict:batch", files=[("file", ("a", jpeg)), ("file", ("b", b"text"))])
    assert ["result" in json.loads(line) for line in response.text.splitlines()] == [True, False]


def test_a_line_of_a_batch_is_sent_before_those_behind_it_are_scored(server: Server, jpeg: bytes):
    count = 300
    before = predictions(server)
    body = {"instances": [{"b64": base64.b64encode(jpeg).decode()}] * count}
    with requests.post(f"{server.url}/v1/predict:batch", json=body, stream=True, timeout=60) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["index"] == 0
        assert 0 < predictions(server) - before < count
        assert [json.loads(line)["index"] for line in lines] == list(range(1, count))
    assert predictions(server) - before == count


def predictions(server: Server) -> float:
    """Scans that the service has counted, whatever it said of them."""
    lines = requests.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("scanflow_predictions_total"))


def test_no_answer_names_the_file(client: TestClient, jpeg: bytes):
    for content in (jpeg, b"no image"):
        answer = client.post("/v1/predict", files={"file": ("Doe^Jane.jpg", content)})
        assert "Doe" not in answer.text + str(answer.headers)


def test_malformed_files_never_cost_the_service_its_composure(client: TestClient, data: Path):
    files = sorted(path for path in (data / "malformed").rglob("*") if path.is_file())
    statuses = [client.post("/v1/predict", content=path.read_bytes()).status_code for path in files]
    assert len(statuses) >= 130
    assert set(statuses) <= {200, 413, 415, 422}


def test_dicom_files_are_answered(client: TestClient, data: Path):
    path = next((data / "dicom").rglob("*.dcm"), None) or next(p for p in (data / "dicom").rglob("*") if p.is_file())
    answer = client.post("/v1/predict", files={"file": ("Doe^Jane.dcm", path.read_bytes(), "application/dicom")})
    assert answer.status_code == 200
    assert "scans" in answer.json() or 0 <= answer.json()["probability"] <= 1
