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

from services.training import experiment as experiments
from services.training.data import ood_images
from services.training.data.ood_images import to_test
from services.training.evaluation import drawings, left_out, left_out_figures, measurements, report
from services.training.evaluation import metrics as figures
from services.training.evaluation.metrics import resampled
from services.training.experiment import Experiment
from services.training.modelling import export, fitting, ood, schedule
from services.training.modelling.lesions import drawn
from services.training.modelling.schedule import Schedule
from services.training.release import build
from shared.ml.model import Model, read_release
from tests.support.eager import eager

COUNT = 96


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    """Drawn heads, half of them with a lesion, as a folder of pictures, read and split."""
    folder, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for place in ("notumor", "glioma"):
        (folder / "kaggle" / place).mkdir(parents=True)
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"kaggle/notumor/a{3 * number}.png"), _head(rng))
        cv2.imwrite(str(folder / f"kaggle/glioma/b{3 * number}.png"), drawn(_head(rng), rng)[0])
    return experiments.read_experiment(str(folder), tmp_path_factory.mktemp("experiment"))


def _head(rng: np.random.Generator) -> np.ndarray:
    texture = cv2.GaussianBlur(rng.normal(0, 60, (128, 128)), (0, 0), 4) * 20 + 130
    axes = int(rng.integers(36, 46)), int(rng.integers(48, 58))
    mask = cv2.ellipse(np.zeros((128, 128)), (64, 64), axes, 0, 0, 360, 1, -1)
    return (np.clip(texture, 50, 220) * mask).astype(np.uint8)


@pytest.fixture(scope="module")
def network(experiment) -> keras.Model:
    keras.utils.set_random_seed(0)
    plan = Schedule(epochs=1, steps=2, batch=4)
    with eager(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "SIDE", 64)
        patch.setattr(fitting, "CALIBRATED_ON", 2)
        return experiments.fitted(experiment, "fit", experiment.split == "train", plan)


@pytest.fixture(scope="module")
def unseen(experiment, network) -> pd.DataFrame:
    """Predictions as of two blocks of sources left out; some healthy heads are of a source with other lesions."""
    found = left_out.predictions(network, experiment.scans, experiment.groups)
    number = np.arange(len(found))
    source = np.where((number % 8 < 3) & (found["label"] == 0), "open-ms", found["source"])
    found[left_out.IN_SKULL] = found["logit"].where(number % 4 < 2)
    return found.assign(block=np.where(number % 4 < 2, "A", "B"), part=experiment.split, source=source)


@pytest.fixture(scope="module")
def model(network, unseen, tmp_path_factory) -> Model:
    release = build.build(network, unseen, ood.read_fitted(), types_learnt=True)
    # Hardly trained, it may find no tumour, to draw a map of, above the threshold of a release; above this some are.
    half = float(np.median(build.probabilities(release, unseen["logit"].to_numpy())))
    folder = tmp_path_factory.mktemp("release")
    export.write(dataclasses.replace(release, threshold=half), folder, {})
    return read_release(folder)


@pytest.fixture(scope="module")
def measured(model, experiment, unseen) -> dict[str, pd.DataFrame]:
    across = {measurements.LEFT_OUT: left_out_figures.calibrated_across(unseen)}
    return measurements.of_splits(model, experiment) | across


@pytest.fixture(scope="module")
def written(experiment, model, measured, tmp_path_factory) -> Path:
    reports = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        # A few images of each kind that is no brain MRI, and a few draws for each interval, are enough here.
        patch.setattr(ood_images, "to_test", lambda heads, _count, rng: to_test(heads, 3, rng))
        patch.setattr(figures, "resampled", lambda table, seed: resampled(table, seed, 20))
        report.write(model, experiment, measured, {"epochs": 1}, reports)
    return reports


def test_every_part_has_scans_of_both_classes(experiment):
    assert set(zip(experiment.split, experiment.scans.table["label"], strict=True)) == {
        (part, label) for part in ("train", "validation", "test") for label in (0, 1)
    }


def test_the_figures_are_there_with_their_intervals(written):
    metrics = json.loads((written / "metrics.json").read_text())
    for section in ("test", "leave_one_source_out"):
        for name in ("accuracy", "precision", "recall", "specificity", "f1", "auc_roc", "auc_pr", "ece", "brier"):
            assert {name, f"{name}_low", f"{name}_high"} <= metrics[section].keys()
    assert metrics["per_source"]["test"]["kaggle"]["tumours"] == metrics["per_class"]["kaggle glioma"]["scans"]
    assert metrics["audit"]["files"] == 2 * COUNT
    assert metrics["explanation"]["drawn_lesions"] >= 200
    assert set(metrics["blocks"]) == {"A", "B"}
    assert set(metrics["within_skulls"]) == {"block A, as they are", "block A, within a skull"}
    assert metrics["risk_coverage"]["all predictions"]["coverage"] == 1
    assert metrics["tumour_type_left_out"]["scans"] == COUNT
    page = (written / "report.html").read_text()
    (lesion,) = metrics["other_lesions"]
    assert lesion == "multiple sclerosis" and lesion in page
    called, healthy = (metrics[name] for name in ("other_lesions", "healthy_sources"))
    assert called[lesion]["called Cancer"] == pytest.approx(1 - healthy["open-ms"]["specificity"])


def test_pictures_are_files_that_the_dashboard_can_show(written):
    for picture in json.loads((written / "pictures.json").read_text()):
        assert picture["meaning"]
        assert cv2.imread(str(written / picture["file"])) is not None


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


def test_a_model_that_finds_no_tumour_has_failures_and_no_heat_maps(experiment, model, measured, written):
    deaf = copy.copy(model)
    deaf.card = dataclasses.replace(model.card, threshold=1.1)
    metrics = json.loads((written / "metrics.json").read_text())
    titles = [title for title, _, _ in drawings.drawings(deaf, experiment, measured, metrics)]
    assert "Failures" in titles
    assert "Heat maps" not in titles


def test_what_should_be_looked_at_is_listed(written):
    assert {"scan_id", "why"} <= set(pd.read_csv(written / "review.csv").columns)
