"""Predictions on sources that a fit never saw, block by block; calibration, threshold and figures come from them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training import experiment as experiments
from services.training.data.scans import TYPES, Scans
from services.training.data.split import strata
from services.training.evaluation.blocks import Block, present
from services.training.experiment import Experiment
from services.training.modelling import export
from services.training.modelling.schedule import Schedule

PREDICTIONS_FILE = "left_out.csv"
INDEX_FILE = "left_out.json"
"""Where the runs lie whose predictions `make report` reads."""

TYPE_LOGITS = [f"logit_{kind}" for kind in TYPES]


def blocks(experiment: Experiment, names: Sequence[str]) -> list[Block]:
    """Return the blocks of these names that the data hold, or all. Raises SystemExit if one is not there."""
    known = {block.name: block for block in present(experiment.scans.table)}
    if missing := set(names) - set(known):
        raise SystemExit(f"The data hold no block {', '.join(sorted(missing))}, but {', '.join(known) or 'none'}.")
    return [known[name] for name in dict.fromkeys(names or known)]


def crossvalidate(experiment: Experiment, plan: Schedule, block: Block) -> pd.DataFrame:
    """Fit once without a block of sources; return the predictions on it. What is finished is only read.

    The fit does not see the home test either. What the first seed of the whole recipe predicts is what a release is
    calibrated by.
    """
    rows, folder = _run(experiment, plan, block)
    if not (folder / PREDICTIONS_FILE).exists():
        network = experiments.fitted(experiment, f"block-{block.name}", rows, plan)
        predict_block(experiment, network, block).to_csv(folder / PREDICTIONS_FILE, index=False)
    if calibrates(plan):
        write_index(experiment, (_known_runs(experiment) or {}) | {block.name: str(folder)})
    return pd.read_csv(folder / PREDICTIONS_FILE, keep_default_na=False)


def whole_recipe(experiment: Experiment, plan: Schedule, block: Block) -> pd.DataFrame | None:
    """Return what the whole recipe's first seed predicted on the block; None if this is it, or if it was not fitted."""
    path = _run(experiment, _first(plan), block)[1] / PREDICTIONS_FILE
    return None if calibrates(plan) or not path.exists() else pd.read_csv(path, keep_default_na=False)


def calibrates(plan: Schedule) -> bool:
    """Return whether a release is calibrated by such a fit: the whole recipe with its first seed, however long."""
    return plan == _first(plan)


def _first(plan: Schedule) -> Schedule:
    return replace(plan, seed=0, without="")


def _run(experiment: Experiment, plan: Schedule, block: Block) -> tuple[np.ndarray, Path]:
    """The rows that the fit without the block may see, and its folder."""
    rows = experiments.learnable(experiment) & ~block.rows(experiment.scans.table)
    return rows, experiments.run_folder(experiment, f"block-{block.name}", rows, plan)


def write_index(experiment: Experiment, runs: dict[str, str]) -> None:
    """Write which folder holds the predictions on each block, and for which scans they were made."""
    content = {"scans": experiments.content_hash(experiment.scans), "runs": runs}
    (experiment.folder / INDEX_FILE).write_text(json.dumps(content, indent=1))


def predict_block(experiment: Experiment, network: keras.Model, block: Block) -> pd.DataFrame:
    """Return the predictions on a block of a network that never saw it, rounded as it would ship."""
    export.round_to_shipped(network)
    rows = block.rows(experiment.scans.table)
    return predictions(network, experiment.scans.only(rows), experiment.groups[rows]).assign(
        block=block.name, part=experiment.split[rows]
    )


def read_left_out(experiment: Experiment) -> pd.DataFrame | None:
    """Return the predictions on all blocks; None before `make crossvalidate`, or if it was run on other scans.

    Type logits are NaN in a block that holds all scans of some type: the fit without it could not learn that type.
    """
    runs = _known_runs(experiment)
    if runs is None:
        return None
    tables = [pd.read_csv(Path(run) / PREDICTIONS_FILE, keep_default_na=False) for _, run in sorted(runs.items())]
    found, table = pd.concat(tables, ignore_index=True), experiment.scans.table
    for block in present(table):
        if not set(TYPES) <= set(table["type"][~block.rows(table)]):
            found.loc[found["block"] == block.name, TYPE_LOGITS] = np.nan
    return found


def _known_runs(experiment: Experiment) -> dict[str, str] | None:
    path = experiment.folder / INDEX_FILE
    if not path.exists():
        return None
    index = json.loads(path.read_text())
    if index["scans"] != experiments.content_hash(experiment.scans):
        return None
    found: dict[str, str] = index["runs"]
    return found


def predictions(network: keras.Model, scans: Scans, groups: np.ndarray) -> pd.DataFrame:
    """Return the scans' table with kind, group, `logit` and type logits, as the release averages them."""
    outputs = export.mirrored_outputs(network).predict(scans.inputs(), batch_size=64, verbose=0)
    found = scans.table.assign(kind=strata(scans.table), group=groups, logit=outputs["logit"])
    return found.assign(**dict(zip(TYPE_LOGITS, outputs["types"].T, strict=True)))
