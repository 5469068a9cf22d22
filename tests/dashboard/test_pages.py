"""Model, Data and Operations, and what every page has in common."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard import evaluation_report, inference_client
from dashboard.components import short
from dashboard.queries import collection, operations, releases, scans
from local.stack.system import Stack
from local.stack.terraform_config import declared
from shared.gcp import bigquery
from tests.dashboard.conftest import (
    NOW,
    record_dead_letter,
    record_features,
    record_prediction,
    record_rejection,
    record_scan,
    words,
)

Page = Callable[..., AppTest]
VIEWS = ("read", "worklist", "review", "studies", "model", "data", "drift", "operations")


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
    assert f"Served now: **{served_version()}**" in words(page("model"))


def test_two_versions_are_compared_on_the_scans_both_have_scored(page: Page, system: Stack, source: str) -> None:
    at = NOW.isoformat()
    for probability in (0.2, 0.9):
        scan_id = record_scan(source, probability=None)
        record_prediction(scan_id, probability, at, f"{source}-a")
        record_prediction(scan_id, 0.7, at, f"{source}-b")
    rows = releases.compared(f"{source}-a", f"{source}-b")
    assert {(row["one"], row["other"]): row["scans"] for row in rows} == {
        ("Cancer", "Cancer"): 1,
        ("Non-Cancer", "Cancer"): 1,
    }
    app = page("model", part="Versions")
    for place, version in (("Compare", f"{source}-a"), ("with", f"{source}-b")):
        app = next(box for box in app.selectbox if box.label == place).set_value(version).run()
    assert "2 scans scored by both: 50.0% alike" in words(app)


def test_the_data_page_counts_what_was_accepted(page: Page, system: Stack, source: str) -> None:
    scans = [record_scan(source) for _ in range(3)]
    for place, scan_id in enumerate(scans):
        record_features(scan_id, source, [float(place), float(place % 2), 1.0])
    app = page("data")
    assert not app.exception
    assert sum(row["scans"] for row in collection.composition() if row["source"] == source) == 3
    assert {metric.label for metric in app.metric} >= {"Scans", "Sources", "Same pixels as another", "In two folders"}


@pytest.mark.parametrize("part", ["Features", "Ingestion checks", "Readers' corrections"])
def test_every_part_of_the_data_page_opens_by_its_link(page: Page, part: str) -> None:
    assert not page("data", part=part).exception


def test_ingestion_checks_say_which_folder_failed(page: Page, system: Stack) -> None:
    counts = dict.fromkeys(("uploaded_files", "stored_files", "recorded_files", "rehashed"), 4) | {"mismatched": 1}
    row = {"check_id": "last", "label": "Cancer", "passed": False, "checked_at": datetime.now(UTC).isoformat()}
    bigquery.append("ingestion_checks", row | counts, key="last/Cancer")
    collection.ingestion_checks.clear()
    assert "failed for Cancer" in page("data", part="Ingestion checks").error[0].value


def test_copies_under_other_ids_and_folders_are_counted(system: Stack, source: str) -> None:
    before = collection.duplicates()
    first = record_scan(source)
    record_scan(source, content_sha256=first)
    collection.duplicates.clear()
    assert collection.duplicates()["same_pixels"] == before["same_pixels"] + 1


def test_operations_shows_what_waits_and_what_was_rejected(page: Page, system: Stack, source: str) -> None:
    record_scan(source)
    record_rejection(source, "truncated")
    app = page("operations")
    assert not app.exception
    waiting = {row["step"]: row["scans"] for row in operations.waiting()}
    assert waiting["score_scan"] >= 1
    assert any(row["source"] == source and row["reason"] == "truncated" for row in operations.rejections("Last day"))
    assert "ready" in {metric.value for metric in app.metric}


def test_dead_letters_are_counted_and_those_that_a_replay_has_done_are_told_apart(
    page: Page, system: Stack, source: str
) -> None:
    waiting, done = record_scan(source), record_scan(source, probability=0.7)
    for scan_id in (waiting, done):
        record_dead_letter("score-scan-on-scan-accepted", scan_id)
    record_dead_letter("validate-scan-on-scan-uploaded", None, generation=17)
    app = page("operations")
    assert not app.exception
    letters = next(table.value for table in app.dataframe if "Out of retries" in table.value)
    found = dict(zip(letters["Scan"], letters["Done since"], strict=True))
    assert (found[short(waiting)], found[short(done)]) == ("no", "yes")
    assert "cannot be told" in set(letters["Done since"])
    counted = next(metric for metric in app.metric if metric.label == "Dead-letter messages")
    assert int(counted.value) == len(letters)
    assert "Out of retries" in [step["step"] for step in scans.trail(waiting)]


def test_the_dashboard_knows_every_subscription_that_gives_up() -> None:
    """All but the upload's, of which nothing but a generation is known, and the series', which is no scan's."""
    pushed = [
        f"{step.replace('_', '-')}-on-{topic}"
        for step, settings in declared()["steps"].items()
        for topic in settings["topics"]
        if step not in ("validate_scan", "record_dead_letter") and topic != "series-summarised"
    ]
    asked = Path(operations.__file__).read_text()
    assert [name for name in pushed if f"'{name}'" not in asked] == []


@pytest.mark.parametrize("window", operations.WINDOWS)
def test_every_look_back_has_its_figures(page: Page, system: Stack, source: str, window: str) -> None:
    record_features(record_scan(source, probability=0.8), source, [0.1])
    assert not page("operations", window=window).exception
    assert {row["outcome"] for row in operations.throughput(window)} >= {"Accepted", "Scored"}
    assert operations.latency(window)[-1]["p50"] >= 0
    assert sum(row["scans"] for row in operations.probabilities(window)) >= 1


@pytest.fixture
def shipped(system: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report as services.training writes one, of the release that is served."""
    figures = dict.fromkeys(("accuracy", "auc_roc", "ece"), 0.9) | {"recall": 0.6, "specificity": 0.6}
    metrics = {
        "model_version": served_version(),
        "threshold": 0.5,
        "test": figures | {"accuracy_low": 0.88, "accuracy_high": 0.92},
    }
    metrics |= {"robustness": {"blur": {"accuracy": 0.97}}, "tumour_type": {"accuracy": 0.8, "scans": 1200}}
    metrics |= {"per_class": {"ward-3 glioma": {"accuracy": 0.75, "scans": 8}}, "shortcuts": {"border pixels": 0.61}}
    metrics |= {"per_source": {"test": {"ward-3": {"recall": 0.83, "groups": 3}}}}
    roc = [{"threshold": t, "sensitivity": 1 - t, "specificity": t} for t in (0.0, 0.2, 0.8, 1.0)]
    curves = {"test": {"roc": roc, "calibration": [{"predicted": 0.1, "observed": 0.2, "count": 9}]}}
    moments = {name: {"mean": 0.2, "std": 0.1} for name in ("mean", "std", "skewness", "kurtosis")}
    for name, content in {
        "metrics.json": json.dumps(metrics),
        "curves.json": json.dumps(curves),
        "reference.json": json.dumps(moments | {"probability": [0.1] * 10}),
        "model_card.md": "# A card\n\nRead before use.",
        "report.html": "<h1>A report</h1>",
        "pictures.json": "[]",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(evaluation_report, "SHIPPED", tmp_path)


def served_version() -> str:
    return inference_client.model()["version"]


def test_the_shipped_report_is_shown(page: Page, shipped: None) -> None:
    app = page("model")
    assert not app.exception
    assert "0.900 (0.880 to 0.920)" in app.table[0].value.to_numpy()
    tables = [table.value for table in app.table]
    assert "Confusion" in words(app)
    for row, figure in {"ward-3 glioma": "0.750", "border pixels": "0.610", "test: ward-3": "0.830"}.items():
        assert any(
            figure in table.set_index(table.columns[0]).loc[row].to_numpy()
            for table in tables
            if row in table.to_numpy()
        )
    assert "Read before use" in words(page("model", part="Card and report"))


def test_the_report_that_ships_has_its_heat_maps(page: Page) -> None:
    report = evaluation_report.of_release(evaluation_report.shipped_version())
    assert report is not None
    drawn = {picture.title: picture for picture in report.pictures}
    assert drawn["Heat maps"].meaning
    with Image.open(io.BytesIO(evaluation_report.file(report.version, drawn["Heat maps"].file))) as gallery:
        assert min(gallery.size) > 100
    app = page("model", part="Heat maps")
    assert not app.exception
    assert "## Heat maps" in words(app)


def test_another_releases_figures_are_never_shown_for_the_served_one(
    page: Page, shipped: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = json.loads((tmp_path / "metrics.json").read_text()) | {"model_version": "shipped-long-ago"}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    app = page("model")
    assert f"Release {served_version()} has no report" in app.warning[0].value
    assert not app.table
    assert "no training reference" in words(page("operations"))


def test_every_shipped_figure_is_shown(page: Page) -> None:
    app = page("model")
    assert not app.exception
    assert {table.value.shape[0] > 0 for table in app.table} == {True}
    assert {"By class and source", "Without seeing a tumour"} <= {
        heading.value.removeprefix("## ") for heading in app.markdown
    }


def test_release_decisions_are_listed_with_their_reasons_and_compared(page: Page, source: str) -> None:
    figures = {"auc_roc": 0.98, "auc_roc_low": 0.97, "auc_roc_high": 0.99}
    for version, outcome, reasons in ((f"{source}-a", "promoted", []), (f"{source}-b", "kept back", ["ece is worse."])):
        decision = {"version": version, "outcome": outcome, "before": None, "reasons": reasons}
        row = decision | {"figures": json.dumps(figures), "decided_at": datetime.now(UTC).isoformat()}
        bigquery.append("release_decisions", row | {"decision_id": version}, key=version)
    releases.decisions.clear()
    app = page("model", part="Versions")
    assert not app.exception
    decisions = app.dataframe[0].value.set_index("Version")
    assert decisions.loc[f"{source}-b", "Outcome"] == "Kept back"
    assert decisions.loc[f"{source}-b", "Why"] == "ece is worse."
    for place, version in (("Compare", f"{source}-a"), ("with", f"{source}-b")):
        app = next(box for box in app.selectbox if box.label == place).set_value(version).run()
    assert list(app.table[0].value.set_index("Metric").loc["AUC, ROC"]) == ["0.980 (0.970 to 0.990)"] * 2


def test_moving_the_threshold_moves_what_it_means(page: Page, shipped: None) -> None:
    app = page("model", part="Threshold")
    figures = {}
    for threshold in (0.2, 0.8):
        app = next(slider for slider in app.slider if slider.label == "Call it Cancer from").set_value(threshold).run()
        figures[threshold] = {metric.label: metric.value for metric in app.metric}
    assert (figures[0.2]["Sensitivity"], figures[0.2]["Specificity"]) == ("80.0%", "20.0%")
    assert (figures[0.8]["Sensitivity"], figures[0.8]["Specificity"]) == ("20.0%", "80.0%")


def test_the_operating_threshold_has_the_figures_of_the_report(page: Page, shipped: None) -> None:
    """And not those between the points of a curve, which lie on a straight line through 0.5."""
    assert evaluation_report.operating_point(
        evaluation_report.of_release(served_version()).drawn_curves()["test"]["roc"], 0.5
    ) == (0.6, 0.6)


def test_drift_is_measured_against_the_training_reference(page: Page, shipped: None, source: str) -> None:
    record_features(record_scan(source, probability=0.8), source, [0.1])
    app = page("operations")
    assert not app.exception
    assert "no training reference" not in words(app)
    assert "Dashed: the test scans at release." in words(app)


def test_the_model_page_says_first_what_the_release_can_do(page: Page, shipped: None) -> None:
    assert (
        "on test scans from the sources it was trained on it finds 60% of the tumours"
        in page("model").markdown[0].value
    )


def test_sources_that_training_left_out_are_named_first() -> None:
    report = evaluation_report.of_release(evaluation_report.shipped_version())
    assert report is not None
    assert report.abilities().startswith("On scans from a source that its training left out")
