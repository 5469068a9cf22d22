"""Figures of the release in service, of what readers say of the random sample."""

import math

import pytest

from dashboard.live_figures import ALL, by_source


def said(scan: str, reading: str, answered: str, reader: str = "r1", **known: str):
    row = {"scan_id": scan, "reading": reading, "prediction": answered, "reader": reader}
    return row | {"source": "ward-3", "series_id": None} | known


def test_a_readers_word_is_the_truth_and_a_refusal_an_error():
    rows = [said(f"t{n}", "Cancer", "Cancer") for n in range(8)] + [said("m", "Cancer", "Non-Cancer")]
    rows += [said("refused", "Cancer", "Not a brain MRI")] + [
        said(f"h{n}", "Non-Cancer", "Non-Cancer") for n in range(4)
    ]
    found = by_source(rows)["ward-3"]
    assert found.sensitivity == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert found.specificity.value == 1.0
    assert found.agreement.value == pytest.approx(12 / 14)
    assert found.scans == 14


def test_sources_stand_apart_and_together():
    found = by_source([said("a", "Cancer", "Cancer"), said("b", "Cancer", "Non-Cancer", source="ward-4")])
    assert list(found) == [ALL, "ward-3", "ward-4"]
    assert [each.sensitivity.value for each in found.values()] == [0.5, 1.0, 0.0]


def test_readers_who_disagree_decide_nothing():
    rows = [said("a", "Cancer", "Cancer"), said("a", "Non-Cancer", "Cancer", "r2")]
    rows += [said("b", "Cancer", "Cancer"), said("b", "Cancer", "Cancer", "r2")]
    found = by_source(rows)[ALL]
    assert (found.scans, found.conflicts) == (1, 1)
    assert found.readers_agree.value == 0.5
    assert found.agreement.value == 0.75


def test_who_cannot_tell_is_not_counted():
    rows = [said("a", "Cannot tell", "Cancer"), said("b", "Cancer", "Cancer")]
    assert by_source(rows)[ALL].scans == 1
    assert by_source(rows[:1]) == {}


def test_slices_of_one_series_are_one_observation():
    apart = by_source([said(f"t{n}", "Cancer", "Cancer") for n in range(10)])[ALL].sensitivity
    together = by_source([said(f"t{n}", "Cancer", "Cancer", series_id="s") for n in range(10)])[ALL].sensitivity
    assert together.low < 0.25 < apart.low
    assert math.isnan(by_source([said("a", "Cancer", "Cancer")])[ALL].specificity.value)
