"""One experiment: scans, what must stay together, their split, and where its runs are kept."""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training.data.copies import copies, split_groups
from services.training.data.scans import Scans, digest, read_cached
from services.training.data.split import split
from services.training.modelling import augmentation, batches, fitting, lesions, network, schedule
from services.training.modelling.averaging import averaged
from services.training.modelling.schedule import Schedule
from shared.ml.model import read_release
from shared.ml.release_files import TEST_FILE
from shared.review_sample import in_review_sample

_EXCLUDED = Path(__file__).parent / "data" / "excluded.json"

MEASURES = "measures"
"""Part of the scans that measure a release in service."""
_NEVER_LEARNT = ("test", "beside test", MEASURES)

SPLIT_FILE = "split.csv"
DATA_FILE = "data.txt"
SEED = 0

_MEAN = "-mean-of-"

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
    """train, validation (to watch a recipe by; the shipped fit learns from it too), test, `beside test` (copies of a
    frozen one) or `measures` (scans of the prepared bucket by which readers measure a release)."""
    excluded: Scans
    """Left out of all of these, by content and with a reason."""
    excluded_split: np.ndarray
    """The part that each excluded scan's group was dealt to."""
    folder: Path


def read_experiment(
    data: str, folder: Path, frozen: frozenset[str] = frozenset(), wanted: frozenset[str] = frozenset()
) -> Experiment:
    """Return scans in groups, split (`frozen`: see `split`), without the excluded ones.

    Of a bucket that is too large to read whole, the frozen and the wanted scans are among those that are drawn.
    """
    every = read_cached(data, folder / "prepared", frozen | wanted)
    groups, same = _grouped(every, folder / "prepared")
    parts = split(every.table, groups, SEED, frozen)
    if data.startswith("gs://"):
        parts[every.table["scan_id"].map(in_review_sample).to_numpy(bool) & (parts != "test")] = MEASURES
    excluded = every.table["scan_id"].isin(excluded_reasons()).to_numpy()
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


def excluded_reasons() -> dict[str, str]:
    """Return the reason by scan id for the scans whose label a look at them contradicts."""
    reasons: dict[str, str] = json.loads(_EXCLUDED.read_text())
    return reasons


def learnable(experiment: Experiment) -> np.ndarray:
    """Return a mask of the scans that a fit may see: all but the test, copies of it, and the sample that measures."""
    return ~np.isin(experiment.split.astype(str), _NEVER_LEARNT)


def read_run(folder: Path) -> Experiment:
    """Return the experiment that the release in `folder`/release was fitted in, with the split of that fit.

    Raises SystemExit if the data or the card's test are not the same any more: the test may have been trained on.
    """
    data, known = (folder / DATA_FILE).read_text(), pd.read_csv(folder / SPLIT_FILE, keep_default_na=False)
    found = read_experiment(data, folder, wanted=frozenset(known["scan_id"][known["part"] == "test"]))
    parts = dict(zip(zip(known["scan_id"], known["label"], strict=True), known["part"], strict=True))
    keys = list(zip(found.scans.table["scan_id"], found.scans.table["label"], strict=True))
    if not all(key in parts for key in keys) or len(parts) != len(keys) + len(found.excluded):
        raise SystemExit("The scans are not those of the last `make train`: run it again before `make report`.")
    same = replace(found, split=np.array([parts[key] for key in keys], dtype=object))
    card = read_release(folder / "release").card
    if card.metrics.get("test_manifest") != test_manifest(same):
        raise SystemExit("The release was tested on other scans than split.csv says: run `make train` again.")
    return same


def write_split(experiment: Experiment, data: str) -> None:
    """Write which data and which split a fit is made with, for `read_run`."""
    experiment.folder.mkdir(parents=True, exist_ok=True)
    (experiment.folder / DATA_FILE).write_text(data)
    split_table(experiment).to_csv(experiment.folder / SPLIT_FILE, index=False)


def _grouped(scans: Scans, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Groups for splitting and of copies, kept in `cache` for these scans."""
    path = cache / f"groups-{content_hash(scans)}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
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


def test_manifest(experiment: Experiment) -> str:
    """Return the SHA-256 of the test's scan ids."""
    return hashlib.sha256("\n".join(test_scans(experiment)).encode()).hexdigest()


def frozen_scans(data: str, folder: Path, release: Path) -> tuple[Scans, np.ndarray]:
    """Return the scans of a release's frozen test in `data`, and their groups. Raises SystemExit if any is missing.

    Scans that were excluded since the release was tested are left out.
    """
    wanted = set((release / TEST_FILE).read_text().split()) - excluded_reasons().keys()
    found = read_experiment(data, folder, frozenset(wanted))
    rows = found.split == "test"
    missing = wanted - set(found.scans.table["scan_id"][rows])
    if missing:
        raise SystemExit(
            f"{len(missing)} of {len(wanted)} frozen test scans are not in {data}: add them, or give --data."
        )
    return found.scans.only(rows), found.groups[rows]


def run_folder(experiment: Experiment, name: str, rows: np.ndarray, plan: Schedule, fits: int = 1) -> Path:
    """Return one run's folder: its name holds a hash of scans, rows, schedule and code, so no other run reads it.

    The mean of several fits has a folder of its own.
    """
    named = experiment.folder / "runs" / name
    one = run_folder_of(experiment.scans.only(rows), experiment.copies[rows], plan, named)
    return one if fits == 1 else one.with_name(f"{one.name}{_MEAN}{fits}")


def fits_of(folder: Path) -> int:
    """Return how many fits the run in a folder is the mean of."""
    return int(folder.name.partition(_MEAN)[2] or 1)


def run_folder_of(scans: Scans, copies: np.ndarray, plan: Schedule, name: Path) -> Path:
    """Return the folder of a fit on these scans: `name` with a hash of all that decides what it learns."""
    lines = [content_hash(scans), *copies.astype(str), *plan.lines(), *_code()]
    return name.with_name(f"{name.name}-{digest(lines)}")


def fitted(experiment: Experiment, name: str, rows: np.ndarray, plan: Schedule) -> keras.Model:
    """Return the network fitted on these rows (a mask), or as it was fitted before on the same."""
    folder = run_folder(experiment, name, rows, plan)
    return fitting.fit(experiment.scans.only(rows), experiment.copies[rows], plan, folder)


def fitted_together(experiment: Experiment, name: str, rows: np.ndarray, plan: Schedule, fits: int) -> keras.Model:
    """Return the mean of so many fits on these rows, of which each draws anew; its weights are kept, to go on from."""
    found = [fitted(experiment, name, rows, replace(plan, seed=plan.seed + number)) for number in range(fits)]
    mean = averaged(found, _later_scans(experiment.scans.only(rows), experiment.copies[rows], plan))
    if fits > 1:
        folder = run_folder(experiment, name, rows, plan, fits)
        folder.mkdir(exist_ok=True)
        mean.save_weights(folder / "last.weights.h5")
    return mean


def _later_scans(scans: Scans, same: np.ndarray, plan: Schedule) -> Iterator[np.ndarray]:
    """Batches that the fit of this plan did not draw, to measure normalisations on."""
    drawn, after = batches.Batches(scans, same, plan), plan.epochs * plan.steps
    yield from (drawn.batch(after + number)[0] for number in range(fitting.CALIBRATED_ON))


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
