import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.training import experiment as experiments
from services.training.evaluation.blocks import BLOCKS, present
from services.training.modelling.network import network
from services.training.modelling.schedule import Schedule
from shared.review_sample import in_review_sample
from tests.support.training_scans import head, scans


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, seeds in (("notumor", range(90)), ("glioma", range(100, 190))):
        (tmp_path / "kaggle" / place).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(tmp_path / "kaggle" / place / f"{seed * 10}.png"), head(seed))
    return tmp_path


def test_another_schedule_or_other_scans_are_another_run(folder, tmp_path_factory):
    found = experiments.read_experiment(str(folder), tmp_path_factory.mktemp("run"))
    rows = found.split == "train"
    one = experiments.run_folder(found, "fit", rows, Schedule(epochs=1))
    assert one == experiments.run_folder(found, "fit", rows, Schedule(epochs=1))
    assert one != experiments.run_folder(found, "fit", rows, Schedule(epochs=2))
    assert one != experiments.run_folder(found, "fit", found.split != "test", Schedule(epochs=1))


def test_fits_together_are_the_mean_of_fits_that_draw_apart(folder, tmp_path_factory):
    found, plan = experiments.read_experiment(str(folder), tmp_path_factory.mktemp("run")), Schedule(epochs=1)
    rows, kernels = found.split == "train", []
    for seed in (0, 1):
        done = network()
        for weights in done.trainable_variables:
            weights.assign((1 + seed / 10) * weights)
        run = experiments.run_folder(found, "fit", rows, replace(plan, seed=seed))
        run.mkdir(parents=True)
        done.save_weights(run / "last.weights.h5")
        kernels.append(done.get_layer("conv_head").get_weights()[0])
    together = experiments.fitted_together(found, "fit", rows, plan, 2)
    assert together.get_layer("conv_head").get_weights()[0] == pytest.approx(np.mean(kernels, axis=0), abs=1e-6)
    assert [experiments.fits_of(experiments.run_folder(found, "fit", rows, plan, fits)) for fits in (1, 2)] == [1, 2]
    kept = network()
    kept.load_weights(experiments.run_folder(found, "fit", rows, plan, 2) / "last.weights.h5")
    assert all(np.array_equal(*each) for each in zip(kept.get_weights(), together.get_weights(), strict=True))
    alone = experiments.fitted_together(found, "fit", rows, plan, 1)
    assert np.array_equal(alone.get_layer("conv_head").get_weights()[0], kernels[0])


def test_a_comment_is_no_other_run_and_a_number_is():
    assert experiments._essence('"""Of old."""\nA = 1  # so') == experiments._essence("A = 1")
    assert experiments._essence("def f(x: int) -> int:\n    return x") == experiments._essence(
        "def f(x):\n    return x"
    )
    assert experiments._essence("A = 1") != experiments._essence("A = 2")


def test_a_report_reads_the_split_of_its_fit_and_refuses_another(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    experiments.write_split(experiments.read_experiment(str(folder), run), str(folder))
    cv2.imwrite(str(folder / "kaggle" / "glioma" / "9999.png"), head(999))
    with pytest.raises(SystemExit, match="make train"):
        experiments.read_run(run)


def test_a_frozen_test_that_is_not_there_is_named(folder, tmp_path_factory, tmp_path):
    release = tmp_path_factory.mktemp("release")
    (release / "test_scans.txt").write_text("\n".join(["nowhere", next(iter(experiments.excluded_reasons()))]))
    with pytest.raises(SystemExit, match="1 of 1 frozen test scans"):
        experiments.frozen_scans(str(folder), tmp_path_factory.mktemp("run"), release)


def test_a_block_leaves_out_tumours_and_healthy_heads_together():
    sources = ["rsna-t1c", "oasis", "kaggle", "kaggle", "br35h"]
    table = scans(np.zeros((5, 128, 128), np.uint8), source=sources, label=[1, 0, 1, 0, 1]).table
    assert [block.name for block in present(table)] == ["A", "C"]
    assert BLOCKS[0].rows(table).tolist() == [True, True, False, False, False]
    assert BLOCKS[2].rows(table).tolist() == [False, False, True, True, False]


def test_the_sample_that_measures_is_never_learnt_from_a_prepared_bucket(tmp_path, monkeypatch):
    names = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(60))
    found = scans(np.stack([head(seed)[::2, ::2] for seed in range(60)]), scan_id=names, label=[0, 1] * 30)
    monkeypatch.setattr(experiments, "read_cached", lambda *_: found)
    frozen = frozenset(name for name in names if in_review_sample(name))
    assert frozen
    of_bucket = experiments.read_experiment("gs://prepared", tmp_path)
    learnt = set(of_bucket.scans.table["scan_id"][experiments.learnable(of_bucket)])
    assert learnt
    assert not learnt & frozen
    tested = experiments.read_experiment("gs://prepared", tmp_path, frozen)  # a release's test stays its test
    assert set(experiments.test_scans(tested)) == frozen
