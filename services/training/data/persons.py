"""Who is in a scan: told, or guessed from runs of file numbers; a split that ignores it measures memory."""

import hashlib
import re

import numpy as np
import pandas as pd

from services.training.data.copies import fingerprint

RUN_GAP = 2
RUN_LIKENESS = 0.6
"""Kaggle's file numbers keep the order of figshare's patients: neighbours correlate at 0.73, random pairs at 0.35."""


def hashed(person: str) -> str:
    """Return a name that groups a person's scans and does not tell who it is."""
    return hashlib.sha256(person.encode()).hexdigest()[:16]


def with_runs(table: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """Return the table with persons filled in from runs of file numbers, and without the column `file`.

    Consecutive numbers of one folder and prefix are one person if at most `RUN_GAP` apart and alike by `RUN_LIKENESS`.
    `person_from` says how a person is known: told, run (of file numbers), source (unknown people: the whole source
    counts as one), or nothing.
    """
    table = table.fillna({"person": "", "person_from": ""})
    unknown = np.flatnonzero((table["person_from"] == "").to_numpy())
    names = [(parsed, int(row)) for row in unknown if (parsed := _numbered(str(table["file"].iloc[row]))) is not None]
    person, previous = "", ("", 0, -1)
    for (prefix, number), row in sorted(names):
        follows = previous[0] == prefix and number - previous[1] <= RUN_GAP
        if not (follows and _likeness(images[previous[2]], images[row]) >= RUN_LIKENESS):
            person = hashed(f"run {prefix} {number}")
        table.loc[row, ["person", "person_from"]] = person, "run"
        previous = prefix, number, row
    return table.drop(columns="file")


def _numbered(name: str) -> tuple[str, int] | None:
    """Prefix and number of a file called so, e.g. `Tr-gl_0012.jpg`."""
    found = re.fullmatch(r"(.*?)(\d+)\.\w+", name)
    return (found[1], int(found[2])) if found else None


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sum(fingerprint(one) * fingerprint(other)))
