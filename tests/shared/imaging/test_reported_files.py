"""Inputs after public bug reports on decoders and viewers, with the right value of each."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import RejectedScan
from shared.imaging.decoding import decode, decode_scan
from shared.imaging.preprocessing import prepare

FOLDER = Path(os.environ.get("SCANFLOW_DATA", Path(__file__).parents[4] / "shared" / "data")) / "files"
READ_NOW = {"nifti_v2_nii.bin"}
"""Reported when no NIfTI was read; opinions differ, and it is read now."""
CASES = json.loads((FOLDER / "cases.json").read_text()) if FOLDER.exists() else []


def cases(expectation):
    return [
        pytest.param(case["file"], case["expect"], id=case["file"])
        for case in CASES
        if expectation in case["expect"] and case["file"] not in READ_NOW
    ]


@pytest.mark.parametrize(("name", "expect"), cases("pages"))
def test_pages_are_the_right_ones(name, expect):
    pages = decode((FOLDER / name).read_bytes()).pages
    right = [np.asarray(Image.open(FOLDER / page).convert("L")) for page in expect["pages"]]
    assert len(pages) == len(right)
    for page, expected in zip(pages, right, strict=True):
        grey = page if page.ndim == 2 else np.asarray(Image.fromarray(page).convert("L"))
        assert grey.shape == expected.shape
        assert np.abs(grey.astype(int) - expected).max() <= expect["max_difference"]


@pytest.mark.parametrize(("name", "expect"), cases("reason"))
def test_reason_is_the_right_one(name, expect):
    with pytest.raises(RejectedScan) as rejected:
        decode((FOLDER / name).read_bytes())
    assert rejected.value.reason == expect["reason"]


@pytest.mark.parametrize(("name", "expect"), cases("not_scored_as_brain_mri"))
def test_what_says_it_is_no_brain_mri_is_decoded_but_not_scored(name, expect):
    content = (FOLDER / name).read_bytes()
    assert decode(content).attributes.refusal
    with pytest.raises(RejectedScan):
        decode_scan(content)


@pytest.mark.parametrize(("name", "expect"), cases("same_answer_as"))
def test_another_shape_of_pixels_gives_the_same_input(name, expect):
    prepared = [prepare(decode((FOLDER / file).read_bytes()).pages[0]) for file in (name, expect["same_answer_as"])]
    assert np.abs(prepared[0] - prepared[1]).mean() < expect["prepared_mean_difference_below"]


def test_the_volume_of_version_2_is_eight_slices():
    if not FOLDER.exists():
        pytest.skip("no shared data")
    assert len(decode((FOLDER / "nifti_v2_nii.bin").read_bytes()).pages) == 8
