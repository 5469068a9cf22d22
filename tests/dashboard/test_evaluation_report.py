"""A release's own report, and what a threshold means for those who are scanned."""

import json
import math
import uuid

import pytest
from google.api_core.exceptions import Forbidden

from dashboard import evaluation_report
from local.stack.system import BUCKETS, Stack
from shared.gcp import storage
from tests.dashboard.conftest import ROOT

ROC = [
    {"threshold": 0.0, "sensitivity": 1.0, "specificity": 0.0},
    {"threshold": 0.5, "sensitivity": 0.9, "specificity": 0.8},
    {"threshold": 1.0, "sensitivity": 0.0, "specificity": 1.0},
]


def test_an_operating_point_lies_on_the_curve() -> None:
    assert evaluation_report.operating_point(ROC, 0.5) == (0.9, 0.8)
    assert evaluation_report.operating_point(ROC[::-1], 0.25) == pytest.approx((0.95, 0.4))


def test_predictive_values_are_shares_of_those_called() -> None:
    # Of 1,000 people 100 are ill: 90 of them and 180 of the 900 well are called, 720 well and 10 ill are not.
    positive, negative = evaluation_report.predictive_values(0.9, 0.8, 0.1)
    assert positive == pytest.approx(90 / 270)
    assert negative == pytest.approx(720 / 730)


def test_nobody_called_has_no_predictive_value() -> None:
    assert math.isnan(evaluation_report.predictive_values(0.0, 1.0, 0.1)[0])


def test_a_version_without_a_report_has_no_figures(system: Stack) -> None:
    assert evaluation_report.of_release("never-reported") is None
    assert evaluation_report.file(evaluation_report.shipped_version(), "no-such-file.json") is None


def test_a_promoted_version_has_the_figures_that_lie_beside_it(system: Stack) -> None:
    version = f"test-{uuid.uuid4().hex[:8]}"
    figures = {"model_version": version, "threshold": 0.5, "test": {"recall": 0.6, "specificity": 0.7}}
    picture = {"title": "Heat maps", "meaning": "Sixteen tumours.", "file": "heat-maps.png"}
    for name, content in {
        "metrics.json": json.dumps(figures),
        "pictures.json": json.dumps([picture]),
        "heat-maps.png": "a picture",
        "model_card.md": "# Another card",
    }.items():
        storage.create(BUCKETS["models"], f"releases/{version}/report/{name}", content.encode(), "text/plain")
    report = evaluation_report.of_release(version)
    assert report is not None
    assert report.metrics["test"]["specificity"] == 0.7
    assert report.card == "# Another card"
    assert [evaluation_report.file(version, drawn.file) for drawn in report.pictures] == [b"a picture"]
    assert report.drawn_curves() == {}


def test_a_models_bucket_that_does_not_answer_is_no_missing_report(
    system: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_BUCKET", "scanflow-no-such-bucket")
    monkeypatch.setattr(storage, "client", unauthorised)
    with pytest.raises(storage.StorageError):
        evaluation_report.of_release("unreachable")


def unauthorised() -> None:
    raise Forbidden("no access")


def test_the_shipped_report_is_of_the_shipped_release() -> None:
    card = json.loads((ROOT / "services" / "inference" / "release" / "card.json").read_text())
    assert evaluation_report.shipped_version() == card["version"]
