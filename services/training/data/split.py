"""Train, validation, test and folds: whole groups of copies, alike in class and source, the same on every machine."""

import hashlib

import numpy as np
import pandas as pd

SHARES = {"train": 0.83, "validation": 0.05, "test": 0.12}
FOLDS = 5
LARGEST_GROUP = 0.25
"""Of a class in validation or test: a part that one head dominates measures that head. Larger groups are trained on."""


def split(table: pd.DataFrame, groups: np.ndarray, seed: int = 0, frozen: frozenset[str] = frozenset()) -> np.ndarray:
    """ "train", "validation" or "test" for each scan.

    `frozen` are the scan ids of an earlier release's test: where any are given, they and no others are test, so that
    two releases compare. New copies of them are "beside test", and neither trained nor tested on.
    """
    if not frozen:
        return _dealt(table, groups, SHARES, seed)
    tested = table["scan_id"].isin(frozen).to_numpy()
    near = np.isin(groups, groups[tested])
    parts = np.where(tested, "test", "beside test").astype(object)
    shares = {part: share for part, share in SHARES.items() if part != "test"}
    parts[~near] = _dealt(table[~near].reset_index(drop=True), groups[~near], shares, seed)
    return parts


def folds(table: pd.DataFrame, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fold 0 to 4 for each scan, for cross-validation."""
    return _dealt(table, groups, dict.fromkeys(range(FOLDS), 1 / FOLDS), seed)


def strata(table: pd.DataFrame) -> np.ndarray:
    """What must be spread evenly: source and class, e.g. `kaggle glioma`."""
    kinds = np.where(table["type"] != "", table["type"], np.where(table["label"] == 1, "tumour", "no tumour"))
    return (table["source"].astype(str) + " " + kinds).to_numpy(str)


def _dealt[Part](table: pd.DataFrame, groups: np.ndarray, shares: dict[Part, float], seed: int) -> np.ndarray:
    """A part for each scan: group by group in an order of hashes, each to the part that its stratum lacks most."""
    ids, kinds = table["scan_id"].to_numpy(str), strata(table)
    members = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    parts = np.empty(len(table), dtype=object)
    wanted = {
        (kind, part): share * np.sum(kinds == kind) for kind in np.unique(kinds) for part, share in shares.items()
    }
    lacking = dict(wanted)
    for group in sorted(members, key=lambda group: _order(min(ids[members[group]]), seed)):
        rows = members[group]
        found, counts = np.unique(kinds[rows], return_counts=True)
        main = found[counts.argmax()]
        fitting = [part for part in shares if len(rows) <= LARGEST_GROUP * wanted[main, part]] or _largest(shares)
        parts[rows] = part = max(fitting, key=lambda part: lacking[main, part] / shares[part])
        for kind, count in zip(found, counts, strict=True):
            lacking[kind, part] -= count
    return parts


def _largest[Part](shares: dict[Part, float]) -> list[Part]:
    return [part for part, share in shares.items() if share == max(shares.values())]


def _order(scan_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {scan_id}".encode()).hexdigest()
