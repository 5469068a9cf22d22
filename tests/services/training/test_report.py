"""From a folder of pictures to a release and its report, by the code that makes the shipped ones."""

import copy
import dataclasses
import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from services.training import export, measure, report
from services.training.augment import with_lesion
from services.training.study import Study, read_study, released
from services.training.train import Schedule
from shared.ml.model import Model, read_release

COUNT = 48


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Drawn heads, half of them with a lesion, as a folder of pictures, read and split."""
    folder, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for place in ("notumor", "glioma"):
        (folder / "here" / place).mkdir(parents=True)
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"here/notumor/{number}.png"), _head(rng))
        cv2.imwrite(str(folder / f"here/glioma/{number}.png"), with_lesion(_head(rng), rng)[0])
    return read_study(str(folder), tmp_path_factory.mktemp("study"))


def _head(rng: np.random.Generator) -> np.ndarray:
    texture = cv2.GaussianBlur(rng.normal(0, 60, (128, 128)), (0, 0), 4) * 20 + 130
    axes = int(rng.integers(36, 46)), int(rng.integers(48, 58))
    mask = cv2.ellipse(np.zeros((128, 128)), (64, 64), axes, 0, 0, 360, 1, -1)
    return (np.clip(texture, 50, 220) * mask).astype(np.uint8)


@pytest.fixture(scope="module")
def model(study, tmp_path_factory) -> Model:
    keras.utils.set_random_seed(0)  # or the last layer, hardly trained, may find no tumour to draw a map of
    network = study.fitted("fit", study.parts == "train", Schedule(epochs=1, steps=2, batch=4, small=64))
    release, _ = released(study, network)
    folder = tmp_path_factory.mktemp("release")
    export.write(release, folder, {})
    return read_release(folder)


@pytest.fixture(scope="module")
def measured(model, study) -> dict[str, pd.DataFrame]:
    return measure.parts(model, study)


@pytest.fixture(scope="module")
def written(study, model, measured, tmp_path_factory) -> Path:
    reports = tmp_path_factory.mktemp("report")
    report.write(model, study, measured | {"cross_validation": measured["test"]}, {"epochs": 1}, reports)
    return reports


def test_every_part_has_scans_of_both_classes(study):
    assert set(zip(study.parts, study.scans.table["label"], strict=True)) == {
        (part, label) for part in ("train", "validation", "test") for label in (0, 1)
    }


def test_the_figures_are_there_with_their_intervals(written):
    metrics = json.loads((written / "metrics.json").read_text())
    for section in ("validation", "test", "cross_validation"):
        for name in ("accuracy", "precision", "recall", "specificity", "f1", "auc_roc", "auc_pr", "ece"):
            assert {name, f"{name}_low", f"{name}_high"} <= metrics[section].keys()
    assert metrics["per_source"]["test"]["here"]["tumours"] == metrics["per_class"]["here glioma"]["scans"]
    assert metrics["audit"]["files"] == 2 * COUNT
    assert metrics["explanation"]["drawn_lesions"] >= 200


def test_the_page_needs_nothing_else_and_fits_in_the_repository(written):
    page = (written / "report.html").read_text()
    assert "not a medical device" in page
    assert "http://" not in page and "https://" not in page
    assert page.count("data:image/png;base64,") >= 7
    assert sum(path.stat().st_size for path in written.iterdir()) < 5e6


def test_the_card_says_where_an_aim_is_missed(written):
    card = (written / "model_card.md").read_text()
    assert "| missed |" in card
    assert "{" not in card


def test_a_model_that_finds_no_tumour_has_failures_and_no_heat_maps(study, model, measured, written):
    deaf = copy.copy(model)
    deaf.card = dataclasses.replace(model.card, threshold=1.1)
    metrics = json.loads((written / "metrics.json").read_text())
    titles = [title for title, _, _ in report._drawings(deaf, study, measured, metrics)]
    assert "Failures" in titles
    assert "Heat maps" not in titles


def test_what_should_be_looked_at_is_listed(written):
    assert {"scan_id", "why"} <= set(pd.read_csv(written / "review.csv").columns)
