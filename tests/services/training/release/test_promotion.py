"""What decides whether a release replaces the current one."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from local.stack.provision import make_release
from services.training.data.scans import Scans
from services.training.experiment import excluded_reasons
from services.training.release import promotion
from services.training.release.promotion import Measured
from shared.gcp import storage
from shared.gcp.registry import RELEASES, move_pointer, read_pointer
from shared.ml.model import Card
from tests.support.training_scans import head, prepared, scans

ACCEPTS_DRAWINGS = 1e9
"""A limit under which drawn heads, which are unlike any real one, are not refused."""
RELEASE = Path(__file__).parents[4] / "services" / "inference" / "release"


def measured(errors: int = 4, version: str = "1", **changed: object) -> Measured:
    """A good model on 200 tumours and 200 healthy scans in 100 groups, wrong about `errors` of each."""
    label = np.repeat([1, 0], 200)
    wrong = (np.arange(400) % 200) < errors
    probability = np.where(wrong, 1 - label, label) * 0.9 + 0.05
    table = pd.DataFrame(
        {
            "label": label,
            "type": "glioma",
            "guess": "glioma",
            "group": np.arange(400) // 4,
            "probability": probability,
            "called": np.where(probability >= 0.5, "Cancer", "Non-Cancer"),
        }
    ).assign(**changed)
    return Measured(version=version, predictions=table, ood_refused=0.95)


def test_a_good_first_release_is_promoted():
    assert promotion.decide(measured(), None).promoted


def test_a_release_that_is_the_same_is_promoted_and_the_next_is_compared_with_the_better_one():
    assert promotion.decide(measured(version="2"), measured()).promoted
    assert promotion.decide(measured(2, version="2"), measured(4)).next_anchor == "2"
    assert promotion.decide(measured(5, version="2"), measured(4)).next_anchor == "1"


@pytest.mark.parametrize(
    ("sabotage", "named"),
    [
        ({"called": "Not a brain MRI"}, "brain_mri_accepted"),  # an OOD limit of -99
        ({"called": "Cancer"}, "specificity"),  # a threshold of 0.01
        ({"called": "Non-Cancer"}, "sensitivity"),  # a threshold of 0.999
        ({"probability": float("nan")}, "not a number"),
        ({"guess": "pituitary"}, "type_accuracy"),
    ],
)
def test_a_sabotaged_release_is_kept_back_with_the_reason(sabotage, named):
    decision = promotion.decide(measured(version="2", **sabotage), measured())
    assert not decision.promoted
    assert named in " ".join(decision.reasons)


def test_a_release_that_refuses_nothing_is_kept_back():
    accepting = dataclasses.replace(measured(version="2"), ood_refused=0.0)
    assert not promotion.decide(accepting, None).promoted


def test_a_healthy_scan_that_is_refused_was_not_recognised_as_healthy():
    refused = measured(called="Not a brain MRI").predictions
    assert promotion.figures(refused)["specificity"] == 0


@pytest.mark.parametrize(("refused", "promoted"), [(0.91, True), (0.85, False)])
def test_a_release_may_refuse_five_points_less_than_the_anchor(refused, promoted):
    candidate = dataclasses.replace(measured(version="2"), ood_refused=refused)
    assert promotion.decide(candidate, measured()).promoted is promoted


def test_three_times_the_errors_are_too_many():
    assert not promotion.decide(measured(12, version="2"), measured(4)).promoted


@pytest.fixture(scope="module")
def few() -> Scans:
    return scans(prepared(*(head(seed) for seed in range(6))), label=[0, 1] * 3, type=["", "glioma"] * 3)


@pytest.fixture
def bucket(stack, monkeypatch, tmp_path) -> str:
    name = "models-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    storage.client().create_bucket(name)
    monkeypatch.setenv("MODELS_BUCKET", name)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def release(tmp_path):
    def write(version: str, **changed: object) -> Path:
        folder = tmp_path / version
        shutil.copytree(RELEASE, folder)
        known = Card.from_json((RELEASE / "card.json").read_bytes())
        card = dataclasses.replace(known, version=version, **{"ood_limit": ACCEPTS_DRAWINGS} | changed)
        (folder / "card.json").write_bytes(card.to_json())
        return folder

    return write


@pytest.fixture
def lenient(monkeypatch):
    """No floors: drawn heads are no test of a real graph. What is compared is still measured on it."""
    monkeypatch.setattr(promotion, "FLOORS", {})


def current(folder: Path, scans: Scans) -> None:
    """Make a release current."""
    version = promotion.judged(folder, scans, np.arange(len(scans))).candidate
    move_pointer(RELEASES, version, read_pointer(RELEASES))


def test_graphs_are_measured_and_cards_are_not_believed(bucket, release, few, lenient):
    current(release("1"), few)
    boast = {"test": {"auc_roc": 1.0, "specificity": 1.0}}
    decision = promotion.judged(release("2", ood_limit=-99.0, metrics=boast), few, np.arange(6))
    assert not decision.promoted
    assert "brain_mri_accepted" in " ".join(decision.reasons)
    assert json.loads(storage.read(bucket, "current.json"))["version"] == "1"
    kept = json.loads(storage.read(bucket, "releases/2/decision.json"))
    assert (kept["promoted"], kept["candidate"], kept["anchor"]) == (False, "2", "1")


@pytest.mark.parametrize("changed", [{"sha256": "0" * 64}, {"tumour_types": ("glioma",)}])
def test_a_release_that_does_not_run_is_refused_with_a_sentence(bucket, release, few, changed):
    with pytest.raises(promotion.Refused, match="does not run"):
        promotion.judged(release("1", **changed), few, np.arange(6))


def test_releases_tested_on_other_scans_do_not_compare(bucket, release, few, lenient):
    current(release("1"), few)
    other = release("2")
    (other / "test_scans.txt").write_text("another")
    with pytest.raises(promotion.Refused, match="--frozen"):
        promotion.judged(other, few, np.arange(6))


def test_a_scan_that_was_excluded_since_leaves_the_frozen_test(bucket, release, few, lenient):
    current(release("1"), few)
    other, excluded = release("2", sha256="0" * 64), next(iter(excluded_reasons()))
    (other / "test_scans.txt").write_text("\n".join([(RELEASE / "test_scans.txt").read_text(), excluded]))
    with pytest.raises(promotion.Refused, match="does not run"):  # which is asked after the same test
        promotion.judged(other, few, np.arange(6))


def test_the_release_that_a_new_system_starts_with_can_be_followed(bucket):
    assert promotion.frozen_test() == frozenset()
    make_release(bucket, RELEASE)
    tested = promotion.frozen_test()
    assert len(tested) > 500
    assert tested == set((RELEASE / "test_scans.txt").read_text().split())
