"""A release fitted on from the one in service."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.training.data.corrections import WEIGHTS, Corrections, as_scans
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current, finetune, matched
from services.training.modelling.schedule import FINETUNING, Schedule
from shared.ml.model import read_release
from shared.review_sample import in_review_sample
from tests.support.heads import head
from tests.support.training_scans import prepared, scans

RELEASE = Path(__file__).parents[4] / "services" / "inference" / "release"
IDS = [name for name in (hashlib.sha256(str(n).encode()).hexdigest() for n in range(90)) if not in_review_sample(name)]


def experiment(folder: Path) -> Experiment:
    """24 drawn heads to learn from, 24 of validation, 12 tested; those with a lesion are tumours."""
    images = prepared(*(head(seed=seed, lesion=bool(seed % 2)) for seed in range(60)))
    found = scans(images, scan_id=sorted(IDS[:60]), label=[0, 1] * 30, type=["", "glioma"] * 30)
    parts = np.repeat(np.array(["train", "validation", "test"], dtype=object), [24, 24, 12])
    return Experiment(found, np.arange(60), np.arange(60), parts, found.only(np.zeros(60, bool)), np.array([]), folder)


def corrections() -> Corrections:
    rows = [(IDS[70 + n], n % 2, "corrected") for n in range(4)]
    table = pd.DataFrame(rows, columns=["scan_id", "label", "basis"])
    table = table.assign(source="ward-3", object_name="", weight=table["basis"].map(WEIGHTS), readers=1)
    return Corrections(table, {"readers disagree": frozenset({IDS[80]})})


def test_new_logits_are_brought_to_the_old_scale():
    old = np.linspace(0.02, 0.98, 50)
    slope, offset = matched(3 * np.log(old / (1 - old)) - 1, old)
    assert (slope, offset) == pytest.approx((1 / 3, 1 / 3), abs=1e-3)


def test_too_little_validation_is_said(tmp_path):
    found = experiment(tmp_path)
    found.split[:] = "test"
    model = read_release(RELEASE)
    with pytest.raises(SystemExit, match="at least 20 scans of validation"):
        finetune(found, corrections(), lambda *_: None, Current(model, b""), Schedule(epochs=1))


@pytest.mark.drill
@pytest.mark.parametrize(
    "plan", [FINETUNING, Schedule(epochs=1, steps=2, batch=4, rate=1e-5)], ids=["last layer", "whole"]
)
def test_a_fine_tune_writes_a_release_that_says_what_it_learnt_from(tmp_path, plan):
    current = Current(read_release(RELEASE), (RELEASE / "model.tflite").read_bytes())

    def pictures(found: Corrections, wanted: np.ndarray):
        rows = found.table[wanted].reset_index(drop=True)
        return as_scans(rows, prepared(*(head(seed=500 + n, lesion=bool(n % 2)) for n in range(len(rows)))))

    found = experiment(tmp_path)
    card = finetune(found, corrections(), pictures, current, plan)
    release = read_release(tmp_path / "release")
    assert release.card.version == card.version != current.model.card.version
    assert (card.threshold, card.uncertain_from) == (current.model.card.threshold, current.model.card.uncertain_from)
    learnt = pd.read_csv(tmp_path / "release" / "learnt_from.csv")
    assert learnt["basis"].value_counts().to_dict() == {"data": 24, "corrected": 4}
    assert card.metrics["learnt_from"] == {
        "from_release": current.model.card.version,
        "scans": {"corrected": 4, "data": 24},
        "left_out": {"readers disagree": 1},
    }
    (run,) = (tmp_path / "runs").glob("finetune-*")
    assert json.loads((run / "learnt_from.json").read_text()) == card.metrics["learnt_from"]
    scans_ = found.scans.only(found.split == "validation").inputs()[:8]
    before, after = ([model.predict(scan).probability for scan in scans_] for model in (current.model, release))
    np.testing.assert_allclose(after, before, atol=0.15)  # two tiny steps, or a layer held near the release's own
