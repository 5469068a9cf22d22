"""What the commands do around a fit; fits themselves are in test_fitting."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from services.training import commands
from services.training import experiment as experiments
from services.training.data.scans import TYPES
from services.training.evaluation import left_out
from services.training.experiment import Experiment
from services.training.modelling import calibration
from shared.ml.model import read_release
from shared.ml.release_files import TEST_FILE
from tests.support.heads import head
from tests.support.training_scans import prepared, scans

RELEASE = commands.SHIPPED
TESTED = sorted((RELEASE / TEST_FILE).read_text().split())[:12]


def experiment(folder: Path, tested: list[str]) -> Experiment:
    """48 drawn heads to learn from and 12 tested; those with a lesion are tumours."""
    images = prepared(*(head(seed=seed, lesion=bool(seed % 2)) for seed in range(60)))
    ids = [f"{number:064d}" for number in range(48)] + tested
    found = scans(images, scan_id=ids, label=[0, 1] * 30, type=["", "glioma"] * 30)
    parts = np.repeat(np.array(["train", "test"], dtype=object), [48, 12])
    return Experiment(found, np.arange(60), np.arange(60), parts, found.only(np.zeros(60, bool)), np.array([]), folder)


def predictions() -> pd.DataFrame:
    """Left-out predictions whose logits lie two lower than a network's that is right at 0."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    types = {name: rng.normal(size=400) for name in left_out.TYPE_LOGITS}
    logits = rng.normal(np.where(labels == 1, 1.0, -5.0), 2)
    return pd.DataFrame({"label": labels, "source": "one", "type": TYPES[0], "logit": logits, "part": "train"} | types)


@pytest.fixture
def given(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(data=str(tmp_path), folder=tmp_path)


def test_nothing_is_recalibrated_without_left_out_predictions(given, monkeypatch):
    monkeypatch.setattr(experiments, "read_experiment", lambda *_: experiment(given.folder, TESTED))
    with pytest.raises(SystemExit, match="run make crossvalidate"):
        commands.recalibrate(given)


def test_a_network_is_not_tested_on_what_may_have_taught_it(given, monkeypatch):
    monkeypatch.setattr(experiments, "read_experiment", lambda *_: experiment(given.folder, [*TESTED[:11], "f" * 64]))
    monkeypatch.setattr(left_out, "read_left_out", lambda _: predictions())
    with pytest.raises(SystemExit, match="1 of this data's test scans may have taught"):
        commands.recalibrate(given)


@pytest.mark.drill
def test_a_recalibrated_release_is_the_same_network_on_another_scale(given, monkeypatch):
    monkeypatch.setattr(experiments, "read_experiment", lambda *_: experiment(given.folder, TESTED))
    monkeypatch.setattr(left_out, "read_left_out", lambda _: predictions())
    commands.recalibrate(given)
    before, after = read_release(RELEASE), read_release(given.folder / "release")
    assert after.card.version != before.card.version
    shown = experiment(given.folder, TESTED).scans.inputs()
    old, new = (logit([model.predict(scan).probability for scan in shown]) for model in (before, after))
    assert np.corrcoef(old, new)[0, 1] > 0.9999
    seen = predictions()
    scale = calibration.platt(seen["logit"].to_numpy(), seen["label"].to_numpy())
    healthy = seen["label"] == 0
    expected = calibration.operating_threshold(
        calibration.calibrated(seen["logit"].to_numpy(), *scale)[healthy], seen["source"].to_numpy(str)[healthy]
    )
    assert after.card.threshold == pytest.approx(expected, abs=1e-3)
    checks = json.loads((given.folder / "checks.json").read_text())
    assert checks["epochs"] > 0  # those of the fit, which recalibrating does not change
    assert checks["export_difference_probability"] < 1e-3
