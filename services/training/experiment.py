"""One experiment: scans, what must stay together, their split, and where its runs are kept."""

import ast
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training.data.copies import copies, split_groups
from services.training.data.scans import Scans, digest, read_cached
from services.training.data.split import split
from services.training.modelling import augmentation, batches, fitting, lesions, network, schedule
from services.training.modelling.schedule import Schedule

EXCLUDED = Path(__file__).parent / "data" / "excluded.json"
"""Reason by scan id for scans whose label a look at them contradicts."""

SPLIT_FILE = "split.csv"
SEED = 0

_LEARNING_CODE = (augmentation, batches, fitting, lesions, network, schedule)
"""Modules that decide what a fit learns."""


@dataclass(frozen=True)
class Experiment:
    """Scans without the excluded ones; every array has one value per scan."""

    scans: Scans
    groups: np.ndarray
    """Number of the group that stays on one side of a split."""
    copies: np.ndarray
    """Number of the group of copies of one picture."""
    split: np.ndarray
    """train, validation or test."""
    excluded: Scans
    """Left out of all of these, by content and with a reason."""
    excluded_split: np.ndarray
    """The part that each excluded scan's group was dealt to."""
    folder: Path


def read_experiment(data: str, folder: Path, frozen: frozenset[str] = frozenset()) -> Experiment:
    """Return scans in groups, split (`frozen`: see `split`), without the excluded ones."""
    every = read_cached(data, folder / "prepared")
    groups, same = _grouped(every, folder / "prepared")
    parts = split(every.table, groups, SEED, frozen)
    excluded = every.table["scan_id"].isin(json.loads(EXCLUDED.read_text())).to_numpy()
    kept = ~excluded
    return Experiment(
        scans=every.only(kept),
        groups=groups[kept],
        copies=same[kept],
        split=parts[kept],
        excluded=every.only(excluded),
        excluded_split=parts[excluded],
        folder=folder,
    )


def _grouped(scans: Scans, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Groups for splitting and of copies, kept in `cache` for these scans."""
    path = cache / f"groups-{content_hash(scans)}.npz"
    if not path.exists():
        np.savez(path, groups=split_groups(scans.images, scans.table), copies=copies(scans.images))
    with np.load(path) as found:
        return found["groups"], found["copies"]


def split_table(experiment: Experiment) -> pd.DataFrame:
    """Return scan_id, label, type, source, group and part of every scan, the excluded ones last, without a group."""
    columns = ["scan_id", "label", "type", "source"]
    kept = experiment.scans.table[columns].assign(group=experiment.groups, part=experiment.split)
    left = experiment.excluded.table[columns].assign(
        group=-1, part=[f"excluded ({part})" for part in experiment.excluded_split]
    )
    return pd.concat([kept, left], ignore_index=True)


def test_scans(experiment: Experiment) -> list[str]:
    """Return the scan ids of the test, in order: two releases compare only if they are the same."""
    return sorted(experiment.scans.table["scan_id"][experiment.split == "test"])


def run_folder(experiment: Experiment, name: str, rows: np.ndarray, plan: Schedule) -> Path:
    """Return the folder of one run: its name holds a hash of scans, rows, schedule and code, so no other run reads it."""
    scans = experiment.scans.only(rows)
    lines = [content_hash(scans), *experiment.copies[rows].astype(str), *plan.lines(), *_code()]
    return experiment.folder / "runs" / f"{name}-{digest(lines)}"


def fitted(experiment: Experiment, name: str, rows: np.ndarray, plan: Schedule) -> keras.Model:
    """Return the network fitted on these rows (a mask), or as it was fitted before on the same."""
    folder = run_folder(experiment, name, rows, plan)
    return fitting.fit(experiment.scans.only(rows), experiment.copies[rows], plan, folder)


def content_hash(scans: Scans) -> str:
    """Return 16 hexadecimal digits of the scans' table and images."""
    table = scans.table.to_csv(index=False, float_format="%.3f").encode()
    return hashlib.sha256(table + np.ascontiguousarray(scans.images).tobytes()).hexdigest()[:16]


def _code() -> list[str]:
    """What the learning modules say, without comments, docstrings and annotations of arguments."""
    return [_essence(Path(str(module.__file__)).read_text()) for module in _LEARNING_CODE]


def _essence(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(tree)


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
