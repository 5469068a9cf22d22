"""What a fine-tune learns from: the data of before, with the corrections in it, and never what measures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from services.training.data.copies import SAME, similar_pairs
from services.training.data.corrections import Corrections
from services.training.data.scans import Scans
from services.training.experiment import Experiment, learnable
from shared.review_sample import in_review_sample

DATA = "data"
"""Basis of a scan that no correction names."""

ReadImages = Callable[[Corrections, np.ndarray], Scans]


@dataclass(frozen=True)
class LearningSet:
    """Scans to fit on; a scan of weight 4 stands in them four times."""

    scans: Scans
    copies: np.ndarray
    """Number of the group of copies of each row; the rows of one weighted scan are no copies of each other."""
    listed: pd.DataFrame
    """scan_id, label, source, basis, weight: what is learnt from, a row each."""

    def once(self) -> Scans:
        """Return each scan once, in the order of `listed`."""
        weight = self.listed["weight"].to_numpy(int)
        return self.scans.only(np.cumsum(weight) - weight)

    def summary(self) -> dict[str, int]:
        """Return the number of scans by basis."""
        return {str(basis): int(count) for basis, count in self.listed["basis"].value_counts().sort_index().items()}


def joined(experiment: Experiment, corrections: Corrections, read_images: ReadImages) -> LearningSet:
    """Return the experiment's scans to learn from with the corrections' labels, and corrected scans that it lacks.

    `read_images` reads the scans of some corrections (a mask of their rows). Not learnt from are the test and copies of
    it, validation, the sample that measures, and what the corrections leave out.
    """
    ids = experiment.scans.table["scan_id"]
    named = corrections.table.set_index("scan_id")
    out = frozenset[str]().union(*corrections.left_out.values())
    kept = learnable(experiment) & (experiment.split != "validation") & ~ids.isin(out).to_numpy()
    kept &= ~ids.map(in_review_sample).to_numpy(bool)
    kept &= ~(ids.isin(named.index) & ids.duplicated()).to_numpy()  # it lay in folders of both labels
    old = experiment.scans.only(kept)
    new = _unlike_test(experiment, read_images(corrections, _new(experiment, corrections)))
    table = pd.concat([_relabelled(old.table, named), new.table[old.table.columns]], ignore_index=True)
    scans = Scans(table, np.concatenate([old.images, new.images]))
    copies = np.append(experiment.copies[kept], 1 + int(experiment.copies.max(initial=0)) + np.arange(len(new)))
    weight = table["scan_id"].map(named["weight"]).fillna(1).to_numpy(int)
    basis = table["scan_id"].map(named["basis"]).fillna(DATA)
    listed = table[["scan_id", "label", "source"]].assign(basis=basis, weight=weight)
    return _repeated(scans, copies, weight, listed)


def _new(experiment: Experiment, corrections: Corrections) -> np.ndarray:
    """Which corrections are of scans that the experiment does not hold, not even as excluded."""
    known = {*experiment.scans.table["scan_id"], *experiment.excluded.table["scan_id"]}
    ids = corrections.table["scan_id"]
    return (~ids.isin(known) & ~ids.map(in_review_sample).astype(bool)).to_numpy()


def _unlike_test(experiment: Experiment, scans: Scans) -> Scans:
    """The scans that are no copies of a picture of the test."""
    if not len(scans):
        return scans
    test = experiment.scans.images[experiment.split == "test"]
    first, second, _ = similar_pairs(np.concatenate([scans.images, test]), SAME)
    beside = first[(first < len(scans)) & (second >= len(scans))]
    return scans.only(~np.isin(np.arange(len(scans)), beside))


def _relabelled(table: pd.DataFrame, named: pd.DataFrame) -> pd.DataFrame:
    """The table with the corrections' labels; neither type nor box of a scan holds whose label changes."""
    label = table["scan_id"].map(named["label"]).fillna(table["label"]).astype(int)
    changed = (label != table["label"]).to_numpy()
    table = table.assign(label=label)
    table.loc[changed, "type"] = ""
    table.loc[changed, ["box_x", "box_y", "box_width", "box_height"]] = 0.0
    return table


def _repeated(scans: Scans, copies: np.ndarray, weight: np.ndarray, listed: pd.DataFrame) -> LearningSet:
    """Rows as often as they weigh: what is drawn from takes rows of other groups of copies for other pictures."""
    rows = np.repeat(np.arange(len(scans)), weight)
    first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    own = int(copies.max(initial=0)) + 1 + np.arange(len(rows))
    return LearningSet(scans.only(rows), np.where(first, copies[rows], own), listed)
