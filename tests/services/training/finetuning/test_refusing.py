"""A release that refuses anew, and answers as before."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.training.data import ood_images
from services.training.evaluation import measurements
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current
from services.training.finetuning.refusing import refit_refusal, unchanged_but_for
from services.training.modelling import export, ood
from shared.ml.model import read_release
from tests.support.heads import head
from tests.support.training_scans import prepared, scans

RELEASE = Path(__file__).parents[4] / "services" / "inference" / "release"


@pytest.fixture(scope="module")
def current() -> Current:
    return Current(read_release(RELEASE), (RELEASE / "model.tflite").read_bytes())


def experiment(folder: Path) -> Experiment:
    """24 drawn heads of two sources to learn from, 12 tested; every other one is a tumour."""
    images = prepared(*(head(seed=seed, lesion=bool(seed % 2)) for seed in range(36)))
    found = scans(images, label=[0, 1] * 18, type=["", "glioma"] * 18, source=["here", "here", "there", "there"] * 9)
    parts = np.repeat(np.array(["train", "test"], dtype=object), [24, 12])
    return Experiment(found, np.arange(36), np.arange(36), parts, found.only(np.zeros(36, bool)), np.array([]), folder)


def test_without_other_images_a_sentence_says_where_to_put_them(tmp_path):
    with pytest.raises(SystemExit, match="other organs into not-brain-mri"):
        refit_refusal(experiment(tmp_path), str(tmp_path), RELEASE)


def test_network_scale_and_types_of_a_release_stay(tmp_path, current):
    known = scans(prepared(*(head(seed=seed, lesion=bool(seed % 2)) for seed in range(12))))
    release = unchanged_but_for(ood.read_fitted(), current, known)
    export.write(release, tmp_path, {})
    again = measurements.predict(read_release(tmp_path), known.images)
    for one, same in zip(measurements.predict(current.model, known.images), again, strict=True):
        assert same.probability == pytest.approx(one.probability, abs=1e-3)
        assert same.types == pytest.approx(one.types, abs=1e-3)
        assert np.abs(same.heat_map - one.heat_map).max() < 1e-3
    card = read_release(tmp_path).card
    assert (card.threshold, card.uncertain_from, card.uncertain_to) == (
        current.model.card.threshold,
        current.model.card.uncertain_from,
        current.model.card.uncertain_to,
    )


@pytest.mark.drill
def test_a_release_learns_to_refuse_what_lies_beside_the_scans(tmp_path, current):
    places = tmp_path / "data" / ood_images.FOLDER
    places.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        knee = np.zeros((160, 160), np.uint8)
        cv2.rectangle(knee, (50, 0), (110, 60 + number), 150, -1)
        cv2.rectangle(knee, (45, 80), (115, 160), 170, -1)
        cv2.imwrite(str(places / f"knee-{number}.png"), np.clip(knee + rng.normal(0, 4, knee.shape), 0, 255))
    shutil.copytree(RELEASE, tmp_path / "fine-tuned")
    (tmp_path / "fine-tuned" / "learnt_from.csv").write_text("scan_id\nabc\n")
    card = refit_refusal(experiment(tmp_path / "run"), str(tmp_path / "data"), tmp_path / "fine-tuned")
    assert card.metrics["learnt_from"]["from_release"] == current.model.card.version
    released = read_release(tmp_path / "run" / "release")
    taken = [
        one.is_brain_mri for one in measurements.predict(released, ood_images.read_real(tmp_path / "data")["other"])
    ]
    assert not any(taken)
    assert (tmp_path / "run" / "refusal.json").exists()
    assert (tmp_path / "run" / "release" / "learnt_from.csv").read_text() == "scan_id\nabc\n"
