import dataclasses
import hashlib
import json
import shutil
import uuid
from pathlib import Path

import pytest

from local.stack.provision import make_release
from services.training import registry
from shared.gcp import bigquery, storage
from shared.ml.model import Card

RELEASE = Path(__file__).parents[3] / "services" / "inference" / "release"
FIGURES = {
    "auc_roc": 0.99,
    "auc_roc_low": 0.98,
    "auc_roc_high": 1.0,
    "sensitivity_at_95_specificity": 0.97,
    "sensitivity_at_95_specificity_low": 0.94,
    "sensitivity_at_95_specificity_high": 1.0,
    "ece": 0.01,
    "ece_low": 0.0,
    "ece_high": 0.02,
}


def card(version: str, manifest: str = "frozen", **changed: float) -> Card:
    shipped = Card.from_json((RELEASE / "card.json").read_bytes())
    return dataclasses.replace(shipped, version=version, metrics={"test": FIGURES | changed, "test_manifest": manifest})


def test_the_first_release_passes():
    assert registry.gate(card("1"), None).promoted


def test_a_release_within_the_interval_passes():
    assert registry.gate(card("2", auc_roc=0.985, ece=0.018), card("1")).promoted


@pytest.mark.parametrize("worse", [{"auc_roc": 0.97}, {"sensitivity_at_95_specificity": 0.9}, {"ece": 0.03}])
def test_a_worse_release_is_held_back_with_the_reason(worse):
    decision = registry.gate(card("2", **worse), card("1"))
    assert not decision.promoted
    assert next(iter(worse)) in decision.reasons[0]


def test_releases_measured_on_different_scans_do_not_compare():
    assert not registry.gate(card("2", manifest="another"), card("1")).promoted


@pytest.fixture
def bucket(stack, monkeypatch, tmp_path) -> str:
    name = "models-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    storage.client().create_bucket(name)
    monkeypatch.setenv("MODELS_BUCKET", name)
    return name


@pytest.fixture
def release(tmp_path):
    def write(version: str, **changed: float) -> Path:
        folder = tmp_path / version
        folder.mkdir()
        shutil.copy(RELEASE / "model.tflite", folder)
        (folder / "card.json").write_bytes(card(version, **changed).to_json())
        (folder / "test_scans.txt").write_text(f"first\n{version}")
        return folder

    return write


def test_promotion_moves_the_pointer_and_rollback_moves_it_back(bucket, release):
    registry.promote(release("1"))
    registry.promote(release("2"))
    assert json.loads(storage.read(bucket, "current.json")) == {"version": "2", "previous": "1"}
    assert registry.rollback() == "1"
    assert json.loads(storage.read(bucket, "current.json"))["version"] == "1"


def test_the_next_release_is_tested_on_what_the_current_one_was(bucket, release):
    assert registry.frozen_test() == frozenset()
    registry.promote(release("1"))
    assert registry.frozen_test() == {"first", "1"}


def test_the_release_that_a_new_system_starts_with_can_be_followed(bucket):
    make_release(bucket, RELEASE)
    tested = registry.frozen_test()
    assert len(tested) > 500
    assert tested == set((RELEASE / "test_scans.txt").read_text().split())


def test_a_refused_release_leaves_the_pointer_and_its_decision(bucket, release):
    registry.promote(release("1"))
    with pytest.raises(registry.Refused, match="auc_roc"):
        registry.promote(release("2", auc_roc=0.5))
    assert json.loads(storage.read(bucket, "current.json"))["version"] == "1"
    decision = json.loads(storage.read(bucket, "releases/2/decision.json"))
    assert decision["promoted"] is False
    assert {decision["candidate"]["version"], decision["current"]["version"]} == {"1", "2"}


def test_there_is_nothing_to_roll_back_to_at_first(bucket, release):
    registry.promote(release("1"))
    with pytest.raises(registry.Refused, match="previous"):
        registry.rollback()


def test_every_decision_is_a_row_in_its_order(bucket, release):
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    registry.promote(release(first))
    with pytest.raises(registry.Refused):
        registry.promote(release(f"worse-{second}", auc_roc=0.5))
    registry.promote(release(second))
    registry.rollback()
    sql = "SELECT * FROM `{dataset}.release_decisions` WHERE ENDS_WITH(version, @a) OR ENDS_WITH(version, @b)"
    rows = sorted(bigquery.query(sql, a=first, b=second), key=lambda row: row["decided_at"])
    assert [(row["version"], row["outcome"], row["before"]) for row in rows] == [
        (first, "promoted", None),
        (f"worse-{second}", "kept back", first),
        (second, "promoted", first),
        (first, "rolled back to", second),
    ]
    assert ["auc_roc" in str(row["reasons"]) for row in rows] == [False, True, False, False]
    assert json.loads(rows[2]["figures"]) == FIGURES
