"""The shipped release on scans of test groups that its training never saw."""

import csv
from pathlib import Path

import numpy as np
import pytest

from shared.imaging import decoding
from shared.imaging.preprocessing import prepare
from shared.ml.model import read_release
from shared.scan import file_id

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def verdicts(data) -> list[tuple[int, str]]:
    """Label and verdict of every held-out test scan that is at hand."""
    with (ROOT / "reports" / "current" / "split.csv").open() as file:
        labels = {row["scan_id"]: int(row["label"]) for row in csv.DictReader(file) if row["part"] == "test"}
    model, found = read_release(ROOT / "services" / "inference" / "release"), {}
    folders = ("kaggle/Training/*/*", "*/yes/*", "*/no/*")
    for path in sorted(path for folder in folders for path in data.glob(folder)):
        content = path.read_bytes()
        if (scan := file_id(content)) in labels and scan not in found:
            (pixels,) = decoding.decode(content).pages
            found[scan] = (labels[scan], model.predicted_class(model.predict(prepare(pixels))))
    assert len(found) > 0.9 * len(labels)
    return list(found.values())


def test_more_than_95_percent_of_held_out_scans_are_right(verdicts):
    assert np.mean([verdict == ("Cancer" if label else "Non-Cancer") for label, verdict in verdicts]) > 0.95


def test_at_most_two_percent_of_real_scans_are_refused(verdicts):
    assert np.mean([verdict == "Not a brain MRI" for _, verdict in verdicts]) <= 0.02
