"""The loop once, in small, on the running system: scans, drift, readers, shadow, canary, promotion, rollback."""

import dataclasses
import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import requests

from local.samples import encode, healthy_slices, lesion_slices
from local.stack.provision import RELEASE
from local.stack.system import BUCKETS, Stack
from services.training.data import ood_images
from services.training.data.ood_images import to_test
from services.training.release import live_scans, promotion, rollout
from shared.gcp import bigquery, storage
from shared.ml.model import Card
from shared.scan import file_id
from tests.support.training_scans import head, prepared, scans
from tests.support.waiting import wait_until

PATIENCE = 300
VERSION = f"candidate-{uuid.uuid4().hex[:8]}"

pytestmark = pytest.mark.drill


@pytest.fixture
def candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The release in service under another version, before criteria that drawn heads can meet."""
    monkeypatch.setattr(promotion, "FLOORS", {})
    monkeypatch.setattr(live_scans, "FEWEST_SCANS", 4)
    monkeypatch.setattr(ood_images, "to_test", lambda heads, _count, rng: to_test(heads, 1, rng))
    monkeypatch.setenv("MODELS_BUCKET", BUCKETS["models"])
    folder = tmp_path / "release"
    shutil.copytree(RELEASE, folder)
    card = Card.from_json((folder / "card.json").read_bytes())
    (folder / "card.json").write_bytes(dataclasses.replace(card, version=VERSION).to_json())
    return folder


def upload(seed: int) -> str:
    """Send a scan that nobody sent before; return its id."""
    rng = np.random.default_rng(seed)
    pictures = [*healthy_slices(), *lesion_slices()]
    noisy = np.clip(pictures[seed % len(pictures)] + rng.normal(0, 2, pictures[0].shape), 0, 255).astype(np.uint8)
    content = encode(noisy, "PNG")
    storage.create(BUCKETS["uploads"], f"Unlabelled/loop-{seed}", content, "image/png", {"source": "loop"})
    return file_id(content)


def roles(ids: list[str]) -> list[str]:
    """Return the roles of all answers about some scans."""
    sql = "SELECT role FROM {dataset}.predictions_raw WHERE scan_id IN UNNEST(@ids) AND model_version = @version"
    return [row["role"] for row in bigquery.query(sql, ids=ids, version=VERSION)]


def served(stack: Stack) -> str:
    answer = requests.get(f"{stack.url('inference')}/v1/models/scanflow", timeout=30).json()
    return str(answer["model_version_status"][0]["version"])


def test_the_loop_runs_once_in_small(stack: Stack, candidate: Path) -> None:
    before = served(stack)
    few = scans(prepared(*(head(seed) for seed in range(4))), label=[0, 1] * 2, type=["", "glioma"] * 2)
    assert rollout.shadow(candidate, few, np.arange(len(few))) == VERSION

    # Scans go on being answered by the release in service; once the service has seen the pointer, by the other too.
    sent: list[str] = []

    def in_shadow() -> bool:
        sent.append(upload(len(sent)))
        return roles(sent).count("challenger") >= 4

    wait_until(in_shadow, PATIENCE, pause_s=2)
    assert served(stack) == before
    assert set(roles(sent)) == {"challenger"}

    verdict = requests.post(stack.url("check_drift"), json={}, timeout=PATIENCE)
    assert verdict.json()["change"] in ("inputs", "case mix", "none")

    sql = """
    SELECT * FROM {dataset}.predictions WHERE scan_id IN (
      SELECT scan_id FROM {dataset}.predictions_raw WHERE model_version = @version AND role = 'challenger')
    """
    for row in bigquery.query(sql, version=VERSION)[:2]:
        said = {name: row[name] for name in ("scan_id", "model_version", "prediction", "probability")}
        said |= {"feedback_id": uuid.uuid4().hex, "agrees": True, "reading": row["prediction"]}
        said |= {"given_at": datetime.now(UTC).isoformat()}
        bigquery.append("feedback", said, key=said["feedback_id"])

    assert rollout.canary(0.5) == VERSION

    def in_canary() -> bool:
        sent.append(upload(len(sent)))
        return "canary" in roles(sent)

    wait_until(in_canary, PATIENCE, pause_s=2)
    assert rollout.promote() == VERSION
    wait_until(lambda: served(stack) == VERSION, PATIENCE)
    assert rollout.rollback() == before
    wait_until(lambda: served(stack) == before, PATIENCE)

    sql = "SELECT outcome, figures FROM {dataset}.release_decisions WHERE version = @version ORDER BY decided_at"
    rows = bigquery.query(sql, version=VERSION)
    assert [row["outcome"] for row in rows] == ["in shadow", "canary", "promoted"]
    assert json.loads(rows[1]["figures"])["read"] == 2
