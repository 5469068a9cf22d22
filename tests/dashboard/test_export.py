"""What a reader takes along holds the answer, and says that it is no medical device."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dashboard import export, overlay
from dashboard.overlay import Look
from shared.ml.prediction import CropBox, PredictionResponse
from tests.dashboard.test_overlay import result_of


@pytest.fixture
def answer() -> PredictionResponse:
    return result_of(np.full((64, 96, 3), 90, np.uint8), np.eye(16), CropBox(left=16, top=0, side=64))


@pytest.fixture
def refused(answer: PredictionResponse) -> PredictionResponse:
    return replace(answer, prediction="Not a brain MRI")


def test_json_holds_every_field_but_the_picture(answer: PredictionResponse) -> None:
    content = json.loads(export.as_json([(None, answer)]))
    (record,) = content["scans"]
    assert "Not a medical device" in content["notice"]
    assert record["probability"] == answer.probability
    assert record["heat_map"]["values"][3][3] == 1
    assert answer.heat_map is not None
    assert answer.heat_map.image_png not in json.dumps(content)


def test_csv_has_a_line_per_slice_and_the_notice(answer: PredictionResponse) -> None:
    other = replace(answer, scan_id="1" * 64, types={"meningioma": 1.0})
    lines = list(csv.DictReader(io.StringIO(export.as_csv([(None, answer), (None, other)]))))
    assert [line["scan_id"] for line in lines] == [answer.scan_id, other.scan_id]
    assert (lines[0]["glioma"], lines[0]["meningioma"]) == ("1.0", "")
    assert {line["notice"] for line in lines} == {export.NOTICE}


def test_a_files_name_travels_only_if_asked_for(answer: PredictionResponse) -> None:
    for write in (export.as_json, export.as_csv):
        assert "Jane Doe.dcm" in write([("Jane Doe.dcm", answer)])
        assert "file" not in write([(None, answer)])


def test_what_is_refused_is_exported_without_a_word_on_cancer(refused: PredictionResponse) -> None:
    (record,) = json.loads(export.as_json([(None, refused)]))["scans"]
    assert record["prediction"] == "Not a brain MRI"
    assert not {"probability", "threshold", "heat_map"} & set(record)
    assert not record["types"]
    (line,) = csv.DictReader(io.StringIO(export.as_csv([(None, refused)])))
    assert (line["probability"], line["threshold"]) == ("", "")
    assert "cancer" not in export.sentence(refused).lower()


def test_an_uncertain_answer_says_so_and_names_no_type(answer: PredictionResponse) -> None:
    uncertain = replace(answer, uncertain=True, uncertain_reason="Its sequence is unlike the training's.")
    assert export.doubt(answer) is None
    assert export.doubt(uncertain) == "Its sequence is unlike the training's."
    assert export.doubt(replace(uncertain, uncertain_reason=None))
    assert export.tumour_types(answer)
    assert not export.tumour_types(uncertain)


def test_a_png_carries_its_notice_under_the_picture(answer: PredictionResponse) -> None:
    with Image.open(io.BytesIO(export.as_png(answer, Look()))) as picture:
        pixels = np.asarray(picture)
    scan = overlay.overlay(answer, Look())
    assert np.array_equal(pixels[: scan.shape[0]], scan)
    band = pixels[scan.shape[0] :]
    assert band.shape[0] > 60
    assert band.max() > 200


@pytest.mark.parametrize(("probability", "words"), [(0.9999, "over 99%"), (0.001, "under 1%"), (0.973, "97%")])
def test_no_more_digits_than_the_calibration_deserves(probability: float, words: str) -> None:
    assert export.percent(probability) == words


@pytest.mark.parametrize("prediction", ["Cancer", "Non-Cancer", "Not a brain MRI"])
def test_pdf_is_one_page(answer: PredictionResponse, prediction: str) -> None:
    document = export.as_pdf(replace(answer, prediction=prediction), Look())
    assert document.startswith(b"%PDF")
    assert document.count(b"/Type /Page\n") == 1
