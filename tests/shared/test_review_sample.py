"""The sample of scans that measures a release."""

import hashlib

import pytest

from shared.review_sample import SAMPLE_SHARE, in_review_sample


def ids(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_it_is_the_documented_share_and_independent_of_how_an_id_begins():
    drawn = [name for name in ids(40_000) if in_review_sample(name)]
    assert len(drawn) / 40_000 == pytest.approx(SAMPLE_SHARE, abs=0.004)
    assert sum(name < "8" for name in drawn) / len(drawn) == pytest.approx(0.5, abs=0.05)


def test_membership_never_changes():
    assert [number for number, name in enumerate(ids(60)) if in_review_sample(name)] == EXPECTED


def test_pages_of_a_file_stay_together():
    for name in ids(200):
        assert in_review_sample(f"{name}-0001") == in_review_sample(f"{name}-0077") == in_review_sample(name)


EXPECTED = [0, 12, 20, 26, 49]
