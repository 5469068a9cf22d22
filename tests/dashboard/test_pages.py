"""Model, Data and Operations, and what every page has in common."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import findings, queries
from local.stack import Stack
from tests.dashboard.conftest import NOW, record_features, record_prediction, record_rejection, record_scan, words

Page = Callable[..., AppTest]
VIEWS = ("read", "worklist", "model", "data", "operations")


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_says_that_it_is_no_medical_device(page: Page, view: str) -> None:
    app = page(view)
    assert not app.exception
    assert "Not a medical device" in words(app)


@pytest.mark.parametrize("view", VIEWS)
def test_no_page_breaks_where_the_service_is_down(page: Page, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_URL", "http://127.0.0.1:9")
    app = page(view)
    assert not app.exception


def test_the_model_page_names_the_served_version(page: Page) -> None:
    assert "Served now" in words(page("model"))


def test_two_versions_are_compared_on_the_scans_both_have_scored(page: Page, system: Stack, source: str) -> None:
    at = NOW.isoformat()
    for probability in (0.2, 0.9):
        scan_id = record_scan(source, probability=None)
        record_prediction(scan_id, probability, at, f"{source}-a")
        record_prediction(scan_id, 0.7, at, f"{source}-b")
    rows = queries.compared(f"{source}-a", f"{source}-b")
    assert {(row["one"], row["other"]): row["scans"] for row in rows} == {
        ("Cancer", "Cancer"): 1,
        ("Non-Cancer", "Cancer"): 1,
    }
    assert not page("model").exception


def test_the_data_page_counts_what_was_accepted(page: Page, system: Stack, source: str) -> None:
    scans = [record_scan(source) for _ in range(3)]
    for place, scan_id in enumerate(scans):
        record_features(scan_id, source, [float(place), float(place % 2), 1.0])
    app = page("data")
    assert not app.exception
    assert sum(row["scans"] for row in queries.composition() if row["source"] == source) == 3
    assert {metric.label for metric in app.metric} >= {"Scans", "Sources", "Same pixels as another", "In two folders"}


def test_copies_under_other_ids_and_folders_are_counted(system: Stack, source: str) -> None:
    before = queries.duplicates()
    first = record_scan(source)
    record_scan(source, content_sha256=first)
    queries.duplicates.clear()
    assert queries.duplicates()["same_pixels"] == before["same_pixels"] + 1


def test_operations_shows_what_waits_and_what_was_rejected(page: Page, system: Stack, source: str) -> None:
    record_scan(source)
    record_rejection(source, "truncated")
    app = page("operations")
    assert not app.exception
    waiting = {row["step"]: row["scans"] for row in queries.waiting()}
    assert waiting["score_scan"] >= 1
    assert any(row["source"] == source and row["reason"] == "truncated" for row in queries.rejections("Last day"))
    assert "ready" in {metric.value for metric in app.metric}


@pytest.mark.parametrize("window", queries.WINDOWS)
def test_every_look_back_has_its_figures(page: Page, system: Stack, source: str, window: str) -> None:
    record_features(record_scan(source, probability=0.8), source, [0.1])
    assert not page("operations", window=window).exception
    assert {row["outcome"] for row in queries.throughput(window)} >= {"Accepted", "Scored"}
    assert queries.latency(window)[-1]["p50"] >= 0
    assert sum(row["scans"] for row in queries.probabilities(window)) >= 1


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report as services.training writes one."""
    figures = dict.fromkeys(("accuracy", "recall", "specificity", "auc_roc", "ece"), 0.9)
    metrics = {"threshold": 0.5, "test": figures | {"accuracy_low": 0.88, "accuracy_high": 0.92}}
    metrics |= {"robustness": {"blur": {"accuracy": 0.97}}, "tumour_type": {"accuracy": 0.8, "scans": 1200}}
    roc = [{"threshold": t, "sensitivity": 1 - t, "specificity": t} for t in (0.0, 0.5, 1.0)]
    curves = {"test": {"roc": roc, "calibration": [{"predicted": 0.1, "observed": 0.2, "count": 9}]}}
    moments = {name: {"mean": 0.2, "deviation": 0.1} for name in ("mean", "deviation", "skewness", "kurtosis")}
    for name, content in {
        "metrics.json": json.dumps(metrics),
        "curves.json": json.dumps(curves),
        "reference.json": json.dumps(moments | {"probability": [0.1] * 10}),
        "model_card.md": "# A card\n\nRead before use.",
        "report.html": "<h1>A report</h1>",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(findings, "FOLDER", tmp_path)


def test_the_shipped_report_is_shown(page: Page, shipped: None) -> None:
    app = page("model")
    assert not app.exception
    assert "0.900 (0.880 to 0.920)" in app.table[0].value.to_numpy()
    assert "Read before use" in words(app)


def test_moving_the_threshold_moves_what_it_means(page: Page, shipped: None) -> None:
    app = page("model")
    figures = {}
    for threshold in (0.2, 0.8):
        app = next(slider for slider in app.slider if slider.label == "Call it Cancer from").set_value(threshold).run()
        figures[threshold] = {metric.label: metric.value for metric in app.metric}
    assert (figures[0.2]["Sensitivity"], figures[0.2]["Specificity"]) == ("80.0%", "20.0%")
    assert (figures[0.8]["Sensitivity"], figures[0.8]["Specificity"]) == ("20.0%", "80.0%")


def test_drift_is_measured_against_the_training_reference(page: Page, shipped: None, source: str) -> None:
    record_features(record_scan(source, probability=0.8), source, [0.1])
    app = page("operations")
    assert not app.exception
    assert "no training reference" not in words(app)
    assert "Dashed: the test scans at release." in words(app)
