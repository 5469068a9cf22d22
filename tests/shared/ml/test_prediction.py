"""What the inference service sends is what its clients read back."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from shared.ml.prediction import CropBox, HeatMap, PredictionResponse, parse_predictions

PLAIN = PredictionResponse(
    scan_id="2f0c" * 16,
    prediction="Cancer",
    probability=0.97,
    threshold=0.5,
    types={"glioma": 1.0},
    ood_score=0.4,
    model_version="v",
    timings_ms={"network": 2.4},
)
EXPLAINED = PredictionResponse(
    **asdict(PLAIN)
    | {
        "heat_map": HeatMap(values=[[0.5]], crop_box=CropBox(left=-1.5, top=0, side=128), image_png="aGk="),
        "uncertain": True,
        "uncertain_reason": "The probability is close to the threshold.",
        "embedding": [0.25],
    }
)


@pytest.mark.parametrize("response", [PLAIN, EXPLAINED])
def test_a_response_survives_json(response: PredictionResponse):
    assert parse_predictions(json.loads(json.dumps(asdict(response)))) == [response]


def test_a_file_of_several_pages_is_one_response_per_page():
    assert parse_predictions({"scans": [asdict(PLAIN), asdict(EXPLAINED)]}) == [PLAIN, EXPLAINED]


def test_fields_of_a_newer_service_are_ignored_and_absent_options_are_none():
    required = {name: value for name, value in asdict(PLAIN).items() if value is not None}
    assert parse_predictions(required | {"weather": "fair"}) == [PLAIN]


def test_an_answer_without_a_prediction_is_an_error():
    with pytest.raises(TypeError):
        parse_predictions({"error": "busy"})


def test_a_function_can_import_it_without_the_model_or_pydantic():
    code = "import sys, shared.ml.prediction; print({'numpy', 'ai_edge_litert', 'pydantic'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
