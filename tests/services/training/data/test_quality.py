import json
from pathlib import Path

import numpy as np

from services.training.data import quality
from tests.support.training_scans import head, prepared, scans


def test_copies_under_both_labels_contradict_each_other():
    images = prepared(head(0), np.ascontiguousarray(np.rot90(head(0))), head(1), head(1))
    assert quality.contradicted(images, np.array([0, 1, 1, 1])).tolist() == [True, True, False, False]


def test_a_scan_that_a_reading_doubts_is_to_be_looked_at():
    doubtful, why = next(iter(json.loads(Path(quality.__file__).with_name("doubtful.json").read_text()).items()))
    told = scans(prepared(head(0), head(1)), scan_id=[doubtful, "another"])
    found = quality.to_review(told, np.arange(2))
    assert found["scan_id"].tolist() == [doubtful]
    assert why in found["why"][0]


def test_a_shortcut_in_the_files_is_measured():
    count = 80
    labels = np.arange(count) % 2
    images = np.random.default_rng(0).integers(0, 256, (count, 128, 128), dtype=np.uint8)
    told = scans(images, label=labels, width=100 + labels, skull=np.where(labels == 1, "stripped", "skull"))
    parts = np.where(np.arange(count) < 60, "train", "test")
    found = quality.shortcut_accuracy(told, parts)
    assert found["format, mode and size"] == 1
    assert found["sequence, plane and skull as told"] == found["skull as told"] == 1
    assert found["plane as told"] == found["sequence as told"] == 0.5
    assert found["4 x 4 thumbnail"] < 0.9


def test_labels_are_counted_by_what_is_told():
    images = prepared(head(0), head(1), head(2))
    told = scans(images, label=[1, 0, 0], sequence=["T1c", "T2", ""])
    crossed = quality.cross_tables(told)["sequence"]
    assert crossed.loc["T1c", "Cancer"] == 1
    assert crossed.loc["not told", "Non-Cancer"] == 1
