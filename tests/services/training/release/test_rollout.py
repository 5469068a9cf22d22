"""Shadow, canary, promotion and rollback: each a write of the pointer and a row, and none before its time."""

import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from local.stack.provision import RELEASE
from services.training.data import ood_images
from services.training.data.ood_images import to_test
from services.training.data.scans import Scans
from services.training.release import live_scans, promotion, rollout
from services.training.release.promotion import Refused
from shared.gcp import bigquery, registry, storage
from shared.gcp.registry import RELEASES
from shared.ml.model import Card
from tests.support.training_scans import head, prepared, scans

ACCEPTS_DRAWINGS = 1e9

Write = Callable[..., tuple[Path, Scans, np.ndarray]]


@pytest.fixture(scope="module")
def few() -> Scans:
    return scans(prepared(*(head(seed) for seed in range(4))), label=[0, 1] * 2, type=["", "glioma"] * 2)


@pytest.fixture
def candidate(stack, monkeypatch, tmp_path, few) -> Write:
    """Write a release of the bundled graph; a bucket of the test's own waits for it."""
    name = "rollout-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    storage.client().create_bucket(name)
    monkeypatch.setenv("MODELS_BUCKET", name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(promotion, "FLOORS", {})  # drawn heads are no test of a real graph
    monkeypatch.setattr(live_scans, "FEWEST_SCANS", 4)
    monkeypatch.setattr(ood_images, "to_test", lambda heads, _count, rng: to_test(heads, 1, rng))

    def write(version: str, **changed: object) -> tuple[Path, Scans, np.ndarray]:
        folder = tmp_path / version
        shutil.copytree(RELEASE, folder)
        known = Card.from_json((RELEASE / "card.json").read_bytes())
        card = dataclasses.replace(known, version=version, **{"ood_limit": ACCEPTS_DRAWINGS} | changed)
        (folder / "card.json").write_bytes(card.to_json())
        return folder, few, np.arange(len(few))

    return write


@pytest.fixture
def versions() -> tuple[str, str]:
    return f"one-{uuid.uuid4().hex[:8]}", f"two-{uuid.uuid4().hex[:8]}"


def score(champion: str, challenger: str, answers: list[tuple[str, str]], source: str = "ward") -> list[str]:
    """Record what both said of new scans; return the scans' ids."""
    ids = [uuid.uuid4().hex * 2 for _ in answers]
    at = datetime.now(UTC).isoformat()
    for scan_id, said in zip(ids, answers, strict=True):
        both = ((champion, "champion"), (challenger, "challenger"))
        for (version, role), prediction in zip(both, said, strict=True):
            row = {"scan_id": scan_id, "model_version": version, "prediction": prediction, "probability": 0.5}
            row |= {"threshold": 0.5, "uploaded_at": at, "predicted_at": at, "role": role, "source": source}
            bigquery.append("predictions", row, key=f"{scan_id}/{role}")
    return ids


def decided(*versions: str) -> list[tuple[str, str, str | None]]:
    sql = "SELECT * FROM `{dataset}.release_decisions` WHERE version IN UNNEST(@versions) ORDER BY decided_at"
    rows = bigquery.query(sql, versions=list(versions))
    return [(row["version"], row["outcome"], row["before"]) for row in rows]


def test_a_release_goes_step_by_step_and_comes_back(candidate, versions):
    one, two = versions
    assert rollout.shadow(*candidate(one)) == one  # the first has nothing to be compared with
    assert rollout.shadow(*candidate(two)) == two
    assert registry.read_pointer(RELEASES).version == one
    with pytest.raises(Refused, match="wait for 4"):
        rollout.canary(0.1)
    score(one, two, [("Cancer", "Cancer")] * 4)
    with pytest.raises(Refused, match="a share of the scans first"):
        rollout.promote()
    assert rollout.canary(0.1) == two
    pointer = registry.read_pointer(RELEASES)
    assert (pointer.version, pointer.challenger, pointer.share) == (one, two, 0.1)
    assert rollout.promote() == two
    pointer = registry.read_pointer(RELEASES)
    assert (pointer.version, pointer.previous, pointer.challenger) == (two, one, None)
    assert rollout.rollback() == one
    assert decided(one, two) == [
        (one, "promoted", None),
        (two, "in shadow", one),
        (two, "canary", one),
        (two, "promoted", one),
        (one, "rolled back to", two),
    ]


def test_a_challenger_that_live_scans_speak_against_is_kept_back(candidate, versions):
    one, two = versions
    rollout.shadow(*candidate(one))
    rollout.shadow(*candidate(two))
    score(one, two, [("Cancer", "Non-Cancer")] * 4)
    with pytest.raises(Refused, match="differently"):
        rollout.canary(0.1)
    assert registry.read_pointer(RELEASES).share == 0
    assert rollout.rollback() == one  # withdraws it
    assert registry.read_pointer(RELEASES).challenger is None
    assert [outcome for _, outcome, _ in decided(two)] == ["in shadow", "kept back", "withdrawn"]


def test_what_most_readers_of_a_scan_saw_is_joined(candidate, versions):
    one, two = versions
    rollout.shadow(*candidate(one))
    rollout.shadow(*candidate(two))
    ids = score(one, two, [("Cancer", "Cancer")] * 4 + [("Non-Cancer", "Cancer")] * 2)
    for number, (scan_id, reading) in enumerate(((ids[4], "Cancer"), (ids[5], "Cancer"), (ids[5], "Non-Cancer"))):
        row = {"feedback_id": uuid.uuid4().hex, "scan_id": scan_id, "model_version": one, "prediction": "Non-Cancer"}
        row |= {"probability": 0.2, "agrees": False, "reading": reading, "given_at": datetime.now(UTC).isoformat()}
        row |= {"reader_id": f"reader {number}"}
        bigquery.append("feedback", row, key=f"{scan_id}/{number}")
    figures = live_scans.compared(one, two).figures
    assert (figures["scans"], figures["read"], figures["challenger_right"]) == (6, 1, 1)
    assert figures["differing"] == pytest.approx(1 / 5)


def test_one_reader_alone_moves_nothing_and_a_second_decides(candidate, versions, monkeypatch):
    monkeypatch.setattr(live_scans, "MOST_DISAGREEMENT", 1)  # readers alone decide
    one, two = versions
    rollout.shadow(*candidate(one))
    rollout.shadow(*candidate(two))
    ids = score(one, two, [("Cancer", "Cancer")] * 2 + [("Cancer", "Non-Cancer")] * 5)

    def say(reader: str) -> None:
        for scan_id in ids[2:]:
            row = {"feedback_id": uuid.uuid4().hex, "scan_id": scan_id, "model_version": one, "prediction": "Cancer"}
            row |= {"probability": 0.8, "agrees": True, "reading": "Cancer", "reader_id": reader}
            bigquery.append("feedback", row | {"given_at": datetime.now(UTC).isoformat()}, key=row["feedback_id"])

    say("one")
    with pytest.raises(Refused, match="hangs on the only reader"):
        rollout.canary(0.1)
    assert [outcome for _, outcome, _ in decided(two)] == ["in shadow"]  # nothing is decided yet
    say("two")
    with pytest.raises(Refused, match="loses 5 and wins 0"):
        rollout.canary(0.1)
    assert [outcome for _, outcome, _ in decided(two)] == ["in shadow", "kept back"]


def test_synthetic_scans_count_for_nothing(candidate, versions):
    score(*versions, [("Cancer", "Cancer")] * 4, source="synthetic")
    assert live_scans.compared(*versions).figures["scans"] == 0


def test_shadow_answers_are_in_no_view(candidate, versions):
    (scan_id,) = score(*versions, [("Cancer", "Non-Cancer")])
    rows = bigquery.query("SELECT prediction FROM {dataset}.predictions WHERE scan_id = @id", id=scan_id)
    assert [row["prediction"] for row in rows] == ["Cancer"]


def test_a_row_of_before_reads_as_the_champions(stack):
    scan_id, at = uuid.uuid4().hex * 2, datetime.now(UTC).isoformat()
    row = {"scan_id": scan_id, "model_version": "old", "prediction": "Cancer", "probability": 0.9, "threshold": 0.5}
    bigquery.append("predictions", row | {"uploaded_at": at, "predicted_at": at}, key=scan_id)
    assert len(bigquery.query("SELECT role FROM {dataset}.predictions WHERE scan_id = @id", id=scan_id)) == 1


def test_there_is_one_challenger_at_a_time(candidate, versions):
    one, two = versions
    rollout.shadow(*candidate(one))
    rollout.shadow(*candidate(two))
    with pytest.raises(Refused, match="roll it back first"):
        rollout.shadow(*candidate("three"))


def test_without_a_challenger_there_is_nothing_to_let_further(candidate):
    for step in (lambda: rollout.canary(0.1), rollout.promote, rollout.rollback):
        with pytest.raises(Refused):
            step()


def test_a_release_that_fails_the_offline_criteria_answers_nobody(candidate, versions):
    one, two = versions
    rollout.shadow(*candidate(one))
    with pytest.raises(Refused, match="brain_mri_accepted"):
        rollout.shadow(*candidate(two, ood_limit=-99.0))
    assert registry.read_pointer(RELEASES).challenger is None
    assert decided(two) == [(two, "kept back", one)]
    assert json.loads(registry.read_file(RELEASES, two, "decision.json"))["promoted"] is False


def test_a_pointer_that_moved_meanwhile_is_not_overwritten(candidate, versions, monkeypatch):
    one, two = versions
    rollout.shadow(*candidate(one))
    seen = registry.read_pointer(RELEASES)
    rollout.shadow(*candidate(two))
    monkeypatch.setattr(rollout, "read_pointer", lambda _: seen)
    with pytest.raises(Refused, match="Another writer"):
        rollout.shadow(*candidate("three"))
