"""What the data is before anything learns from it: contradictions, doubtful scans, and what a shortcut would score."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from services.training.data.copies import NEAR, similar_pairs
from services.training.data.scans import Scans
from services.training.data.sources import TOLD
from shared.imaging.preprocessing import SIDE

_DOUBTFUL = Path(__file__).with_name("doubtful.json")
"""What a blind reading found by scan id, where it does not plainly contradict the label."""


def contradicted(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether each prepared image has a copy under the other label: one is wrong, or two heads are alike."""
    first, second, _ = similar_pairs(images, NEAR)
    apart = labels[first] != labels[second]
    return np.isin(np.arange(len(labels)), [first[apart], second[apart]])


def to_review(scans: Scans, found: np.ndarray) -> pd.DataFrame:
    """Return what a reader of scans should look at, though it is kept: scan_id, label, source, group and why."""
    named = scans.table[["scan_id", "label", "source"]].assign(group=found)
    apart = contradicted(scans.images, scans.table["label"].to_numpy())
    doubts = named["scan_id"].map(json.loads(_DOUBTFUL.read_text()))
    doubtful = named.assign(why="doubtful when read again: " + doubts)[doubts.notna()]
    return pd.concat([named[apart].assign(why="a copy has the other label"), doubtful], ignore_index=True)


def summary(scans: Scans, groups: np.ndarray, copies: np.ndarray) -> dict[str, float]:
    """Return the data quality in numbers."""
    table = scans.table
    return {
        "files": int(table["files"].sum()),
        "distinct files": len(table),
        "groups that a split keeps whole": len(np.unique(groups)),
        "scans in the largest group": int(np.unique(groups, return_counts=True)[1].max()),
        "groups of copies": len(np.unique(copies)),
        "persons told": int(table.loc[table["person_from"] == "told", "person"].nunique()),
        "persons guessed from runs of file numbers": int(table.loc[table["person_from"] == "run", "person"].nunique()),
        "files under both labels": int(table["scan_id"].duplicated().sum()),
        "shortest side in pixels": int(table[["width", "height"]].min().min()),
        "longest side in pixels": int(table[["width", "height"]].max().max()),
    }


SHORTCUTS = (
    "format, mode and size",
    "sequence as told",
    "plane as told",
    "skull as told",
    "sequence, plane and skull as told",
    "border pixels",
    "4 x 4 thumbnail",
)


def cross_tables(scans: Scans) -> dict[str, pd.DataFrame]:
    """Return how many scans of each label have each source, sequence, plane and skull."""
    table = scans.table.assign(label=scans.table["label"].map({0: "Non-Cancer", 1: "Cancer"}))
    return {name: pd.crosstab(table[name].replace("", "not told"), table["label"]) for name in ("source", *TOLD)}


def shortcut_accuracy(scans: Scans, parts: np.ndarray) -> dict[str, float]:
    """Return the balanced accuracy on test of classifiers that cannot see a tumour, which a model must beat."""
    train, test = parts != "test", parts == "test"
    labels = scans.table["label"].to_numpy()
    found = {}
    for name, seen in zip(SHORTCUTS, seen_by_shortcuts(scans), strict=True):
        forest = RandomForestClassifier(200, class_weight="balanced", random_state=0, min_samples_leaf=2)
        answers = forest.fit(seen[train], labels[train]).predict(seen[test])
        found[name] = float(balanced_accuracy_score(labels[test], answers))
    return found


def seen_by_shortcuts(scans: Scans) -> list[np.ndarray]:
    """Return what each of `SHORTCUTS` sees of scans, (n, d) each."""
    told = [_told(scans, column) for column in TOLD]
    return [_facts(scans), *told, np.concatenate(told, 1), _borders(scans.images), _thumbnails(scans.images)]


def _facts(scans: Scans) -> np.ndarray:
    words = pd.get_dummies(scans.table[["format", "mode"]]).to_numpy(float)
    return np.column_stack([words, scans.table[["width", "height"]].to_numpy(float)])


def _told(scans: Scans, column: str) -> np.ndarray:
    return pd.get_dummies(scans.table[column]).to_numpy(float)


def _borders(images: np.ndarray) -> np.ndarray:
    ring = np.concatenate(
        [images[:, :4].mean(1), images[:, -4:].mean(1), images[:, :, :4].mean(2), images[:, :, -4:].mean(2)], 1
    )
    return ring.reshape(len(images), -1, 8).mean(axis=2)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4)).reshape(len(images), -1)
