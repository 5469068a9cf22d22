import numpy as np
import pandas as pd
import pytest

from services.training.data.split import FOLDS, SHARES, folds, split


@pytest.fixture
def scans() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 1200)
    label = groups % 2
    table = pd.DataFrame(
        {"scan_id": [f"{i:064x}" for i in rng.permutation(1200)], "label": label, "type": "", "source": "here"}
    )
    return table, groups


@pytest.mark.parametrize("deal", [split, folds])
def test_no_group_is_in_two_parts(scans, deal):
    table, groups = scans
    assert (pd.Series(deal(table, groups)).groupby(groups).nunique() == 1).all()


def test_parts_have_their_shares_of_every_class(scans):
    table, groups = scans
    parts = split(table, groups)
    for label in (0, 1):
        mine = parts[table["label"] == label]
        assert all(np.mean(mine == part) == pytest.approx(share, abs=0.02) for part, share in SHARES.items())


def test_folds_are_alike_in_size(scans):
    sizes = np.bincount(folds(*scans).astype(int), minlength=FOLDS)
    assert np.ptp(sizes) < 0.1 * sizes.mean()


@pytest.mark.parametrize("deal", [split, folds])
def test_the_order_of_the_scans_changes_nothing(scans, deal):
    table, groups = scans
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = deal(table.iloc[order].reset_index(drop=True), groups[order])
    assert shuffled.tolist() == deal(table, groups)[order].tolist()


def test_another_seed_is_another_split(scans):
    assert (split(*scans, seed=1) != split(*scans)).any()


def test_a_frozen_test_stays_as_it_is_when_scans_arrive(scans):
    table, groups = scans
    old = groups < 200
    tested = frozenset(table["scan_id"][old][split(table[old].reset_index(drop=True), groups[old]) == "test"])
    parts = split(table, groups, frozen=tested)
    assert set(table["scan_id"][parts == "test"]) == tested
    assert not set(groups[parts == "test"]) & set(groups[(parts == "train") | (parts == "validation")])
    assert np.mean(parts == "train") > 0.75


def test_new_copies_of_a_frozen_test_are_neither_trained_nor_tested_on(scans):
    table, groups = scans
    rows = np.flatnonzero(groups == groups[0])
    parts = split(table, groups, frozen=frozenset(table["scan_id"].iloc[rows[:1]]))
    assert parts[rows].tolist() == ["test"] + ["beside test"] * (len(rows) - 1)
