"""The loop once, in small, on the running system: scans, drift, readers, retraining, criteria, shadow to rollback."""

import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from local.samples import encode, healthy_slices, lesion_slices
from local.stack.provision import RELEASE
from local.stack.system import BUCKETS, Stack
from services.training.data import ood_images
from services.training.data.corrections import read_corrections, read_images
from services.training.data.ood_images import to_test
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current, finetune
from services.training.release import live_scans, promotion, rollout
from shared.gcp import bigquery, storage
from shared.gcp.registry import RELEASES, load_model, read_file
from shared.ml.model import Card
from shared.ml.release_files import GRAPH_FILE, TEST_FILE
from shared.scan import file_id
from tests.support.training_scans import prepared, scans
from tests.support.waiting import wait_until

PATIENCE = 300
READERS = ("one", "two")
SCANS = 40
"""That come before anybody reads: enough of each predicted class for check_drift to test."""

pytestmark = pytest.mark.drill


@pytest.fixture
def criteria(monkeypatch: pytest.MonkeyPatch) -> None:
    """Criteria that slices of one head and a handful of live scans can meet."""
    monkeypatch.setattr(promotion, "FLOORS", {})
    monkeypatch.setattr(live_scans, "FEWEST_SCANS", 4)
    monkeypatch.setattr(ood_images, "to_test", lambda heads, _count, rng: to_test(heads, 1, rng))
    for kind in ("models", "scans"):
        monkeypatch.setenv(f"{kind.upper()}_BUCKET", BUCKETS[kind])


class Ward:
    """Sends scans that nobody sent before, and knows which of them show a lesion."""

    def __init__(self) -> None:
        self.sees: dict[str, str] = {}
        """What is in each scan, by its id."""

    def send(self) -> None:
        number = len(self.sees)
        slices = lesion_slices() if number % 2 else healthy_slices()
        rng = np.random.default_rng(number)
        pixels = slices[number // 2 % len(slices)]
        content = encode(np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8), "PNG")
        storage.create(BUCKETS["uploads"], f"Unlabelled/loop-{number}", content, "image/png", {"source": "loop"})
        self.sees[file_id(content)] = "Cancer" if number % 2 else "Non-Cancer"

    def read(self, answers: Iterable[bigquery.Row]) -> None:
        """Let two readers say what is in scans that were answered."""
        for row in answers:
            reading = self.sees[row["scan_id"]]
            said = {name: row[name] for name in ("scan_id", "model_version", "prediction", "probability")}
            said |= {"reading": reading, "agrees": reading == row["prediction"]}
            for reader in READERS:
                said |= {"feedback_id": uuid.uuid4().hex, "reader_id": reader}
                bigquery.append("feedback", said | {"given_at": datetime.now(UTC).isoformat()}, said["feedback_id"])

    def answered(self, version: str) -> list[bigquery.Row]:
        """Return all answers of a release about these scans."""
        sql = "SELECT * FROM {dataset}.predictions_raw WHERE scan_id IN UNNEST(@ids) AND model_version = @version"
        return bigquery.query(sql, ids=list(self.sees), version=version)

    def described(self) -> list[bigquery.Row]:
        """Return the features of these scans."""
        return bigquery.query("SELECT * FROM {dataset}.features WHERE scan_id IN UNNEST(@ids)", ids=list(self.sees))

    def roles(self, version: str) -> list[str]:
        return [row["role"] for row in self.answered(version)]


def home(folder: Path) -> Experiment:
    """Slices of a turned head in the place of the data that the release was trained and tested on.

    None of that is at hand. A turned slice is no copy of the ward's, which would not be learnt from.
    """
    healthy, lesions = healthy_slices(), lesion_slices()
    turned = {"train": 18, "validation": -18, "test": 25}
    images = prepared(*(_turned(pixels, angle) for angle in turned.values() for pixels in (*healthy, *lesions)))
    count = len(images)
    label = [*[0] * len(healthy), *[1] * len(lesions)] * len(turned)
    found = scans(images, label=label, type=["glioma" if each else "" for each in label])
    parts = np.repeat(np.array([*turned], dtype=object), count // len(turned))
    each = np.arange(count)
    return Experiment(found, each, each, parts, found.only(np.zeros(count, bool)), np.array([]), folder)


def _turned(pixels: np.ndarray, degrees: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR, expand=True))


def retrained(version: str, ward: Ward, at_home: Experiment) -> Card:
    """Fine-tune a release on what the readers of a ward said, as the command does; return the new release's card."""
    found = read_corrections(most_of_folders=0)
    ours = replace(found, table=found.table[found.table["scan_id"].isin(ward.sees)].reset_index(drop=True))
    current = Current(load_model(version), read_file(RELEASES, version, GRAPH_FILE))
    card = finetune(at_home, ours, read_images, current)
    shutil.copy(RELEASE / TEST_FILE, at_home.folder / "release")  # the turned slices are tested in its place
    return card


def drifted(stack: Stack, ward: Ward) -> None:
    """Let check_drift find that slices of one made-up ward are none of those that the release was measured on."""
    found = requests.post(stack.url("check_drift"), json={}, timeout=PATIENCE).json()
    sql = "SELECT change, cause, foreign_scans FROM {dataset}.drift_checks WHERE check_id = @check"
    (row,) = bigquery.query(sql, check=found["check_id"])
    assert (row["change"], row["cause"]) == ("inputs", "source")
    assert ward.sees.keys() & row["foreign_scans"]


def served(stack: Stack) -> str:
    answer = requests.get(f"{stack.url('inference')}/v1/models/scanflow", timeout=30).json()
    return str(answer["model_version_status"][0]["version"])


def test_the_loop_runs_once_in_small(stack: Stack, criteria: None, tmp_path: Path) -> None:
    ward, before = Ward(), served(stack)
    for _ in range(SCANS):
        ward.send()
    wait_until(lambda: len(ward.answered(before)) >= SCANS, PATIENCE)
    wait_until(lambda: len(ward.described()) >= SCANS, PATIENCE)
    drifted(stack, ward)

    ward.read(ward.answered(before))
    at_home = home(tmp_path)
    card = retrained(before, ward, at_home)
    version, learnt = card.version, card.metrics["learnt_from"]
    assert learnt["from_release"] == before != version
    assert sum(learnt["scans"].get(basis, 0) for basis in ("corrected", "confirmed")) > SCANS // 2

    tested = at_home.split == "test"
    few = at_home.scans.only(tested)
    assert rollout.shadow(tmp_path / "release", few, np.arange(len(few))) == version

    # Scans go on being answered by the release in service; once the service has seen the pointer, by the other too.
    def in_shadow() -> bool:
        ward.send()
        return ward.roles(version).count("challenger") >= 4

    wait_until(in_shadow, PATIENCE, pause_s=2)
    assert served(stack) == before
    assert set(ward.roles(version)) == {"challenger"}
    ward.read(row for row in ward.answered(before) if row["scan_id"] in list(ward.sees)[SCANS:])
    assert rollout.canary(0.5) == version

    def in_canary() -> bool:
        ward.send()
        return "canary" in ward.roles(version)

    wait_until(in_canary, PATIENCE, pause_s=2)
    assert rollout.promote() == version
    wait_until(lambda: served(stack) == version, PATIENCE)
    assert rollout.rollback() == before
    wait_until(lambda: served(stack) == before, PATIENCE)

    sql = "SELECT outcome, figures FROM {dataset}.release_decisions WHERE version = @version ORDER BY decided_at"
    rows = bigquery.query(sql, version=version)
    assert [row["outcome"] for row in rows] == ["in shadow", "canary", "promoted"]
    assert json.loads(rows[1]["figures"])["readers"] == 2
    back = bigquery.query(sql, version=before)
    assert "rolled back to" in [row["outcome"] for row in back]
