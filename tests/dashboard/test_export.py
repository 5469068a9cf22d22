"""What a reader takes along holds the answer, and says that it is no medical device."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from dashboard import export
from dashboard.inference_client import CropBox, PredictionResult
from dashboard.overlay import Look
from tests.dashboard.test_overlay import result_of


@pytest.fixture
def answer() -> PredictionResult:
    return result_of(np.full((64, 96, 3), 90, np.uint8), np.eye(16), CropBox(left=16, top=0, side=64))


def test_json_holds_every_field_but_the_picture(answer: PredictionResult) -> None:
    (record,) = json.loads(export.as_json([answer]))
    assert record["probability"] == answer.probability
    assert record["heat_map"][3][3] == 1
    assert "image_png" not in record


def test_csv_has_a_line_a_slice(answer: PredictionResult) -> None:
    other = replace(answer, scan_id="1" * 64, types={"meningioma": 1.0})
    lines = list(csv.DictReader(io.StringIO(export.as_csv([answer, other]))))
    assert [line["scan_id"] for line in lines] == [answer.scan_id, other.scan_id]
    assert (lines[0]["glioma"], lines[0]["meningioma"]) == ("1.0", "")


@pytest.mark.parametrize("prediction", ["Cancer", "Non-Cancer", "Not a brain MRI"])
def test_pdf_is_one_page(answer: PredictionResult, prediction: str) -> None:
    document = export.as_pdf(replace(answer, prediction=prediction), Look())
    assert document.startswith(b"%PDF")
    assert document.count(b"/Type /Page\n") == 1
