"""Slices to one answer: a run of neighbours counts, single slices and more slices do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ml.series import SeriesPrediction, SlicePrediction, predict_series, predict_study

CLEAR, SUSPICIOUS = 0.05, 0.98


def series(probabilities, spacing: float | None = 5.0, plane: str | None = "axial", prediction: str = "Non-Cancer"):
    return [
        SlicePrediction(
            scan_id=f"{number:064d}",
            probability=probability,
            prediction=prediction,
            position_mm=None if spacing is None else number * spacing,
            plane=plane,
        )
        for number, probability in enumerate(probabilities)
    ]


def test_single_suspicious_slice_does_not_make_a_tumour() -> None:
    answer = predict_series(series([CLEAR] * 15 + [SUSPICIOUS] + [CLEAR] * 8), 0.5)
    assert answer.prediction == "Non-Cancer"


def test_suspicious_slices_that_are_no_neighbours_do_not_make_a_tumour() -> None:
    scattered = ([CLEAR] * 4 + [SUSPICIOUS]) * 6
    assert predict_series(series(scattered), 0.5).prediction == "Non-Cancer"


def test_run_of_neighbours_makes_a_tumour() -> None:
    answer = predict_series(series([CLEAR] * 12 + [SUSPICIOUS] * 4 + [CLEAR] * 8), 0.5)
    assert answer.prediction == "Cancer"
    assert {one.scan_id for one in answer.suspicious} <= {f"{number:064d}" for number in range(12, 16)}


def test_answer_does_not_grow_with_the_number_of_slices() -> None:
    coarse = predict_series(series([0.3] * 24, 5.0), 0.5)
    fine = predict_series(series([0.3] * 240, 0.5), 0.5)
    assert fine.probability == pytest.approx(coarse.probability)


def test_thin_slices_need_more_neighbours() -> None:
    four_of_thin = [CLEAR] * 120 + [SUSPICIOUS] * 4 + [CLEAR] * 60
    assert predict_series(series(four_of_thin, 1.0), 0.5).prediction == "Non-Cancer"


def test_skull_base_and_vertex_weigh_less_than_the_middle() -> None:
    def at(start: int) -> float:
        return predict_series(series([CLEAR] * start + [0.9] * 4 + [CLEAR] * (26 - start)), 0.5).probability

    assert at(2) < 0.5 < at(14)
    assert at(26) < 0.5


def test_order_of_arrival_does_not_matter() -> None:
    slices = series([CLEAR] * 12 + [SUSPICIOUS] * 4 + [CLEAR] * 8)
    assert predict_series(slices[::-1], 0.5) == predict_series(slices, 0.5)


def test_series_that_is_mostly_no_brain_is_none() -> None:
    spine = series([SUSPICIOUS] * 20, prediction="Not a brain MRI")
    answer = predict_series([*spine, *series([CLEAR])], 0.5)
    assert answer.prediction == "Not a brain MRI"
    assert answer.suspicious


def test_slices_that_are_no_brain_do_not_count() -> None:
    neck = series([SUSPICIOUS] * 8, prediction="Not a brain MRI")
    head = [
        SlicePrediction(
            scan_id=f"h{number:03d}", probability=CLEAR, prediction="Non-Cancer", position_mm=40.0 + 5 * number
        )
        for number in range(20)
    ]
    assert predict_series([*neck, *head], 0.5).prediction == "Non-Cancer"


def test_pages_without_positions_are_neighbours_in_order() -> None:
    assert predict_series(series([CLEAR] * 6 + [SUSPICIOUS] * 4 + [CLEAR] * 6, None, None), 0.5).prediction == "Cancer"


def test_single_slice_is_its_own_answer() -> None:
    answer = predict_series(series([0.7]), 0.5)
    assert (answer.probability, answer.prediction) == (pytest.approx(0.7), "Cancer")


def test_range_says_how_much_one_slice_decides() -> None:
    broad = predict_series(series([CLEAR] * 10 + [SUSPICIOUS] * 10 + [CLEAR] * 10), 0.5)
    narrow = predict_series(series([CLEAR] * 13 + [SUSPICIOUS] * 4 + [CLEAR] * 13), 0.5)
    assert broad.probability - broad.lowest_probability < narrow.probability - narrow.lowest_probability


def test_study_is_as_suspicious_as_its_most_suspicious_series_of_the_brain() -> None:
    def one(prediction: str, probability: float) -> SeriesPrediction:
        return SeriesPrediction(
            prediction=prediction,
            probability=probability,
            lowest_probability=probability,
            highest_probability=probability,
            suspicious=(),
        )

    study = [one("Non-Cancer", 0.2), one("Cancer", 0.8), one("Not a brain MRI", 0.99)]
    assert predict_study(study) == study[1]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-500, 500), st.booleans()), min_size=1, max_size=40))
def test_any_series_has_an_answer_within_its_range(slices) -> None:
    given_slices = [
        SlicePrediction(
            scan_id=f"{number:064d}",
            probability=probability,
            prediction="Non-Cancer" if brain else "Not a brain MRI",
            position_mm=position,
        )
        for number, (probability, position, brain) in enumerate(slices)
    ]
    answer = predict_series(given_slices, 0.5)
    assert 0 <= answer.lowest_probability <= answer.probability <= answer.highest_probability <= 1
    assert 1 <= len(answer.suspicious) <= 3
