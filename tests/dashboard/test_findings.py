"""What a threshold means for those who are scanned."""

import math

import pytest

from dashboard import findings

ROC = [
    {"threshold": 0.0, "sensitivity": 1.0, "specificity": 0.0},
    {"threshold": 0.5, "sensitivity": 0.9, "specificity": 0.8},
    {"threshold": 1.0, "sensitivity": 0.0, "specificity": 1.0},
]


def test_an_operating_point_lies_on_the_curve() -> None:
    assert findings.operating_point(ROC, 0.5) == (0.9, 0.8)
    assert findings.operating_point(ROC[::-1], 0.25) == pytest.approx((0.95, 0.4))


def test_predictive_values_are_shares_of_those_called() -> None:
    # Of 1,000 people 100 are ill: 90 of them and 180 of the 900 well are called, 720 well and 10 ill are not.
    positive, negative = findings.predictive_values(0.9, 0.8, 0.1)
    assert positive == pytest.approx(90 / 270)
    assert negative == pytest.approx(720 / 730)


def test_nobody_called_has_no_predictive_value() -> None:
    assert math.isnan(findings.predictive_values(0.0, 1.0, 0.1)[0])


def test_a_file_that_the_report_lacks_is_empty() -> None:
    assert findings.read("no-such-file.json") == {}
    assert findings.text("no-such-file.md") == ""
