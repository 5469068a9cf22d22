"""Only what is done with a block's fit: fits themselves are in test_fitting."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.training import experiment as experiments
from services.training.data.scans import Scans
from services.training.evaluation import left_out
from services.training.experiment import Experiment
from services.training.modelling.schedule import Schedule
from tests.support.training_scans import head, scans

SOURCES = {"rsna-t1c": 1, "oasis": 0, "kaggle": 1, "br35h": 1, "brisc": 0}
TYPE = {"rsna-t1c": "glioma", "kaggle": "meningioma", "br35h": "pituitary"}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    found = scans(
        np.stack([head(seed)[::2, ::2] for seed in range(50)]),
        source=[*SOURCES] * 10,
        label=[*SOURCES.values()] * 10,
        type=[TYPE.get(source, "") for source in SOURCES] * 10,
        scan_id=[f"{number:064d}" for number in range(50)],
    )
    monkeypatch.setattr(experiments, "read_cached", lambda *_: found)
    return experiments.read_experiment("anywhere", tmp_path)


def finished(experiment: Experiment, name: str, plan: Schedule) -> pd.DataFrame:
    """Put the predictions of a finished fit where that fit would have put them."""
    (block,) = left_out.blocks(experiment, [name])
    table = experiment.scans.table
    rows = experiments.learnable(experiment) & ~block.rows(table)
    folder = experiments.run_folder(experiment, f"block-{name}", rows, plan)
    folder.mkdir(parents=True)
    found = table[block.rows(table)].assign(
        block=name, logit=float(plan.seed), **dict.fromkeys(left_out.TYPE_LOGITS, 0.5)
    )
    found.to_csv(folder / left_out.PREDICTIONS_FILE, index=False)
    return found


def test_blocks_that_are_done_one_after_another_are_read_together(experiment):
    for name in ("B", "A"):
        finished(experiment, name, Schedule(epochs=1))
        (block,) = left_out.blocks(experiment, [name])
        left_out.crossvalidate(experiment, Schedule(epochs=1), block)
    assert left_out.read_left_out(experiment)["block"].unique().tolist() == ["A", "B"]


def test_a_fit_that_measures_the_noise_is_not_calibrated_by(experiment):
    (block,) = left_out.blocks(experiment, ["A"])
    for seed in (0, 1):
        finished(experiment, "A", Schedule(epochs=1, seed=seed))
        found = left_out.crossvalidate(experiment, Schedule(epochs=1, seed=seed), block)
        assert set(found["logit"]) == {seed}
    assert set(left_out.read_left_out(experiment)["logit"]) == {0}


def test_a_fit_without_a_part_is_not_calibrated_by_but_set_beside_the_whole_recipe(experiment):
    (block,) = left_out.blocks(experiment, ["A"])
    whole, part = Schedule(epochs=1), Schedule(epochs=1, without="lesions")
    finished(experiment, "A", part)
    assert left_out.whole_recipe(experiment, part, block) is None
    finished(experiment, "A", whole)
    left_out.crossvalidate(experiment, whole, block)
    left_out.crossvalidate(experiment, part, block)
    assert left_out.read_left_out(experiment)["logit"].equals(left_out.whole_recipe(experiment, part, block)["logit"])
    assert left_out.whole_recipe(experiment, whole, block) is None


def test_the_mean_of_several_fits_is_calibrated_by_and_set_beside_one(experiment, monkeypatch):
    (block,) = left_out.blocks(experiment, ["A"])
    plan, table = Schedule(epochs=1), experiment.scans.table
    one = finished(experiment, "A", plan)
    left_out.crossvalidate(experiment, plan, block)
    asked = []
    monkeypatch.setattr(experiments, "fitted_together", lambda _found, name, *_rest: asked.append(name))
    monkeypatch.setattr(left_out, "predict_block", lambda *_: one.assign(logit=9.0))
    rows = experiments.learnable(experiment) & ~block.rows(table)
    experiments.run_folder(experiment, "block-A", rows, plan, 2).mkdir()
    for _ in range(2):
        assert set(left_out.crossvalidate(experiment, plan, block, 2)["logit"]) == {9}
    assert asked == ["block-A"]
    assert set(left_out.read_left_out(experiment)["logit"]) == {9}
    assert set(left_out.whole_recipe(experiment, plan, block, 2)["logit"]) == {0}
    assert left_out.whole_recipe(experiment, plan, block) is None


@pytest.mark.parametrize("elsewhere", [False, True])
def test_types_are_judged_only_where_the_fit_could_learn_all_of_them(experiment, elsewhere):
    table = experiment.scans.table.copy()
    if elsewhere:
        table.loc[table.index[table["source"] == "kaggle"][:5], "type"] = "glioma"
    known = replace(experiment, scans=Scans(table, experiment.scans.images))
    finished(known, "A", Schedule(epochs=1))
    left_out.crossvalidate(known, Schedule(epochs=1), left_out.blocks(known, ["A"])[0])
    assert left_out.read_left_out(known)[left_out.TYPE_LOGITS].notna().all(axis=None) == elsewhere


def test_a_block_that_the_data_do_not_hold_is_said(experiment):
    assert [block.name for block in left_out.blocks(experiment, [])] == ["A", "B"]
    with pytest.raises(SystemExit, match="no block C, but A, B"):
        left_out.blocks(experiment, ["A", "C"])
