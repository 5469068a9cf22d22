"""Intervals of shares."""

import math

import pytest

from shared.ml.intervals import wilson


def test_it_is_wilsons_score_interval():
    assert wilson(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)  # as R's prop.test without correction says
    assert wilson(10, 10) == pytest.approx((1.0, 0.7225, 1.0), abs=1e-4)


def test_slices_of_few_persons_make_it_wider():
    assert wilson(80, 100, independent=10) == pytest.approx(wilson(8, 10))


def test_of_nothing_nothing_is_known():
    assert all(math.isnan(value) for value in wilson(0, 0))
