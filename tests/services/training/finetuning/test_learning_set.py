"""What a fine-tune learns from."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.training.data.corrections import WEIGHTS, Corrections, as_scans
from services.training.data.scans import Scans
from services.training.experiment import Experiment
from services.training.finetuning.learning_set import joined
from services.training.modelling.batches import sampling_weights
from shared.review_sample import in_review_sample
from tests.support.training_scans import head, prepared, scans

IDS = sorted(
    name for name in (hashlib.sha256(str(n).encode()).hexdigest() for n in range(30)) if not in_review_sample(name)
)
MEASURES = next(
    name for name in (hashlib.sha256(str(n).encode()).hexdigest() for n in range(999)) if in_review_sample(name)
)
NEW = hashlib.sha256(b"new 2").hexdigest()
assert not in_review_sample(NEW)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """Twelve heads: six to learn from, two of validation, two tested, one that measures, one a copy of the tested."""
    images = prepared(*(head(seed) for seed in range(12)))
    names = [*IDS[:10], MEASURES, IDS[10]]
    found = scans(images, scan_id=names, label=[0, 1] * 6, type=["", "glioma"] * 6, box_width=[0.0, 9.0] * 6)
    parts = np.array(["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["train", "beside test"], dtype=object)
    none = found.only(np.zeros(12, bool))
    return Experiment(found, np.arange(12), np.arange(12), parts, none, np.array([]), Path("nowhere"))


def corrections(*rows: tuple[str, int, str], out: frozenset[str] = frozenset()) -> Corrections:
    table = pd.DataFrame(rows, columns=["scan_id", "label", "basis"])
    return Corrections(
        table.assign(source="ward-3", object_name="", weight=table["basis"].map(WEIGHTS), readers=1), {"why": out}
    )


def pictures(seed: int = 77):
    def read(found: Corrections, wanted: np.ndarray) -> Scans:
        rows = found.table[wanted].reset_index(drop=True)
        return as_scans(
            rows,
            prepared(*(head(seed + n) for n in range(len(rows)))) if len(rows) else np.zeros((0, 128, 128), np.uint8),
        )

    return read


def test_without_corrections_it_is_what_may_be_learnt(experiment):
    found = joined(experiment, corrections(), pictures())
    assert set(found.listed["scan_id"]) == set(IDS[:6])
    assert found.summary() == {"data": 6}


def test_the_sample_that_measures_is_never_learnt_from_whoever_names_it(experiment):
    found = joined(experiment, corrections((MEASURES, 1, "corrected"), (NEW, 1, "corrected")), pictures())
    assert MEASURES not in set(found.listed["scan_id"])
    assert MEASURES not in set(found.scans.table["scan_id"])
    assert NEW in set(found.scans.table["scan_id"])


def test_a_correction_changes_the_label_and_what_was_known_of_its_tumour(experiment):
    found = joined(experiment, corrections((IDS[1], 0, "corrected")), pictures())
    rows = found.scans.table[found.scans.table["scan_id"] == IDS[1]]
    assert len(rows) == WEIGHTS["corrected"]
    assert set(rows["label"]) == {0}
    assert set(rows["type"]) == {""}
    assert not rows["box_width"].any()


def test_a_weighted_scan_is_drawn_as_often_as_it_weighs(experiment):
    found = joined(experiment, corrections((IDS[1], 1, "corrected")), pictures())
    weights = sampling_weights(found.scans, found.copies)
    mine = (found.scans.table["scan_id"] == IDS[1]).to_numpy()
    other = (found.scans.table["scan_id"] == IDS[3]).to_numpy()
    assert weights[mine].sum() == pytest.approx(WEIGHTS["corrected"] * weights[other].sum())


def test_scans_of_the_pipeline_that_the_data_lacks_are_added(experiment):
    found = joined(experiment, corrections((NEW, 1, "confirmed")), pictures())
    row = found.listed.set_index("scan_id").loc[NEW]
    assert (row["label"], row["source"], row["basis"], row["weight"]) == (1, "ward-3", "confirmed", 2)
    assert len(found.scans) == len(found.copies) == 6 + 2


def test_neither_a_test_scan_nor_a_copy_of_its_picture_is_learnt(experiment):
    found = joined(experiment, corrections((IDS[8], 1, "corrected"), (NEW, 1, "corrected")), pictures(seed=8))
    assert set(found.listed["scan_id"]) == set(IDS[:6])  # head 8 is the picture of a tested scan


def test_what_readers_disagree_on_is_taken_out_of_the_data(experiment):
    found = joined(experiment, corrections(out=frozenset({IDS[2]})), pictures())
    assert set(found.listed["scan_id"]) == set(IDS[:6]) - {IDS[2]}


def test_a_scan_in_folders_of_both_labels_is_learnt_once_as_a_reader_decided(experiment):
    table = experiment.scans.table.assign(scan_id=[IDS[0], IDS[0], *experiment.scans.table["scan_id"][2:]])
    doubled = dataclasses.replace(experiment, scans=Scans(table, experiment.scans.images))
    found = joined(doubled, corrections((IDS[0], 1, "confirmed")), pictures())
    assert found.listed.query("scan_id == @IDS[0]")["label"].tolist() == [1]
