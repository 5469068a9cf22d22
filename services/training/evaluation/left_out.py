"""Predictions on sources that a fit never saw, block by block; calibration, threshold and figures come from them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training import experiment as experiments
from services.training.data.scans import TYPES, Scans, inputs
from services.training.data.split import strata
from services.training.evaluation.blocks import Block, present
from services.training.evaluation.skulls import in_skulls
from services.training.experiment import Experiment
from services.training.modelling import export
from services.training.modelling.schedule import Schedule

PREDICTIONS_FILE = "left_out.csv"
INDEX_FILE = "left_out.json"
"""Where the runs lie whose predictions `make report` reads."""

IN_SKULL = "logit_in_skull"
"""What a stripped head's logit is within another head's skull; NaN for all else."""
TYPE_LOGITS = [f"logit_{kind}" for kind in TYPES]


def blocks(experiment: Experiment, names: Sequence[str]) -> list[Block]:
    """Return the blocks of these names that the data hold, or all. Raises SystemExit if one is not there."""
    known = {block.name: block for block in present(experiment.scans.table)}
    if missing := set(names) - set(known):
        raise SystemExit(f"The data hold no block {', '.join(sorted(missing))}, but {', '.join(known) or 'none'}.")
    return [known[name] for name in dict.fromkeys(names or known)]


def crossvalidate(experiment: Experiment, plan: Schedule, block: Block, fits: int = 1) -> pd.DataFrame:
    """Fit without a block of sources, so many times; return what the mean of the fits predicts on the block.

    What is finished is only read. No fit sees the home test either. What the whole recipe from its first seed on
    predicts is what a release is calibrated by.
    """
    rows, folder = _run(experiment, plan, block, fits)
    if not (folder / PREDICTIONS_FILE).exists():
        network = experiments.fitted_together(experiment, f"block-{block.name}", rows, plan, fits)
        predict_block(experiment, network, block).to_csv(folder / PREDICTIONS_FILE, index=False)
    if calibrates(plan):
        write_index(experiment, (known_runs(experiment) or {}) | {block.name: str(folder)})
    return pd.read_csv(folder / PREDICTIONS_FILE, keep_default_na=False)


def whole_recipe(experiment: Experiment, plan: Schedule, block: Block, fits: int = 1) -> pd.DataFrame | None:
    """Return what one fit of the whole recipe, its first seed, predicted on the block.

    None if this is it, or if it was not fitted.
    """
    path = _run(experiment, _first(plan), block)[1] / PREDICTIONS_FILE
    is_it = calibrates(plan) and fits == 1
    return None if is_it or not path.exists() else pd.read_csv(path, keep_default_na=False)


def calibrates(plan: Schedule) -> bool:
    """Return whether a release is calibrated by such a fit: the whole recipe from its first seed on, however long."""
    return plan == _first(plan)


def _first(plan: Schedule) -> Schedule:
    return replace(plan, seed=0, without="")


def _run(experiment: Experiment, plan: Schedule, block: Block, fits: int = 1) -> tuple[np.ndarray, Path]:
    """The rows that a fit without the block may see, and the folder of the fit or of the mean of several."""
    rows = experiments.learnable(experiment) & ~block.rows(experiment.scans.table)
    return rows, experiments.run_folder(experiment, f"block-{block.name}", rows, plan, fits)


def write_index(experiment: Experiment, runs: dict[str, str]) -> None:
    """Write which folder holds the predictions on each block, and for which scans they were made."""
    content = {"scans": experiments.content_hash(experiment.scans), "runs": runs}
    (experiment.folder / INDEX_FILE).write_text(json.dumps(content, indent=1))


def predict_block(experiment: Experiment, network: keras.Model, block: Block) -> pd.DataFrame:
    """Return the predictions on a block of a network that never saw it, rounded as it would ship."""
    export.round_to_shipped(network)
    rows = block.rows(experiment.scans.table)
    mine, others = experiment.scans.only(rows), experiment.scans.only(~rows)
    found = predictions(network, mine, experiment.groups[rows]).assign(**{IN_SKULL: np.nan})
    dressed = {row: image for row, image in enumerate(in_skulls(mine, others)) if image is not None}
    if dressed:
        outputs = _outputs(network, inputs(np.stack([*dressed.values()])))
        found.loc[[*dressed], IN_SKULL] = outputs["logit"]
    return found.assign(block=block.name, part=experiment.split[rows])


def read_left_out(experiment: Experiment) -> pd.DataFrame | None:
    """Return the predictions on all blocks; None before `make crossvalidate`, or if it was run on other scans.

    Type logits are NaN in a block that holds all scans of some type: the fit without it could not learn that type.
    """
    runs = known_runs(experiment)
    if runs is None:
        return None
    tables = [pd.read_csv(Path(run) / PREDICTIONS_FILE, keep_default_na=False) for _, run in sorted(runs.items())]
    found, table = pd.concat(tables, ignore_index=True), experiment.scans.table
    found[IN_SKULL] = pd.to_numeric(found[IN_SKULL]) if IN_SKULL in found else np.nan
    for block in present(table):
        if not set(TYPES) <= set(table["type"][~block.rows(table)]):
            found.loc[found["block"] == block.name, TYPE_LOGITS] = np.nan
    return found


def known_runs(experiment: Experiment) -> dict[str, str] | None:
    """Return by block the folder of the run that a release is calibrated by; None before, or for other scans."""
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
    outputs = _outputs(network, scans.inputs())
    found = scans.table.assign(kind=strata(scans.table), group=groups, logit=outputs["logit"])
    return found.assign(**dict(zip(TYPE_LOGITS, outputs["types"].T, strict=True)))


def _outputs(network: keras.Model, scans: np.ndarray) -> dict[str, np.ndarray]:
    return dict(export.mirrored_outputs(network).predict(scans, batch_size=64, verbose=0))
