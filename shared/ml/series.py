"""From the predictions of single slices to one answer for a series, and for a study.

A slice model that errs on one healthy slice in ten errs somewhere in every volume, so the highest slice says little. A
tumour spans neighbouring slices: the answer is the mean log-odds of the most suspicious run of them, which does not
grow with the number of slices. docs/adr/0801-series-answer.md has the volumes that the constants were chosen on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

_RUN_SLICES = 4
_RUN_MM = 12.0
"""A run is at least so many slices and so long; all that there is where a series has less."""
_BIAS = 0.5
"""Log-odds taken off a run: it is the highest of many."""
_LOW_SHARE = 0.4
"""Lowest part of an axial head, where neck and skull base look like tumours to the model."""
_EDGE_SHARE = 0.1
"""Either end of a series, where hardly any brain is left."""
_OUTLYING = 3.0
"""Log-odds taken off a slice there: a clear tumour still counts."""
_PLACED_FROM = 10
"""Slices that a series needs for its ends to be known; fewer may all lie in the middle."""
_LEAST_BRAIN = 0.25
"""Share of slices that must be brain MRI for the series to be one."""
_SHOWN = 3
_CERTAIN = 9.2
"""Log-odds of 0.9999: beyond it a slice says no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePrediction:
    """What is known of one slice."""

    scan_id: str
    probability: float
    """Calibrated probability of Cancer of the slice alone, 0 to 1."""
    prediction: str
    """A value of shared.ml.prediction.PredictedClass."""
    position_mm: float | None = None
    """Along the normal of the slices; feet to head for axial slices."""
    plane: str | None = None
    """axial, coronal or sagittal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPrediction:
    """One answer for a series."""

    prediction: str
    probability: float
    """Of Cancer, 0 to 1."""
    lowest_probability: float
    highest_probability: float
    """The range of the probability where any one slice is left out."""
    suspicious: tuple[SlicePrediction, ...]
    """The most suspicious slices first, three at most, of the run that decided."""


@dataclass(frozen=True, slots=True)
class _Slice:
    of: SlicePrediction
    place_mm: float
    log_odds: float


def predict_series(slices: Sequence[SlicePrediction], threshold: float) -> SeriesPrediction:
    """Return the answer for a series of at least one slice; Cancer at or above `threshold`, the release's own."""
    brain = _placed([one for one in slices if one.prediction != "Not a brain MRI"])
    if len(brain) < max(1, _LEAST_BRAIN * len(slices)):
        return _not_a_brain(slices)
    run = _most_suspicious(brain)
    probability = _probability(run, len(brain))
    without = [_probability(_most_suspicious(rest), len(rest)) for rest in _each_left_out(brain)] or [probability]
    ranked = sorted(run, key=lambda one: one.log_odds, reverse=True)
    return SeriesPrediction(
        prediction="Cancer" if probability >= threshold else "Non-Cancer",
        probability=probability,
        lowest_probability=min(probability, *without),
        highest_probability=max(probability, *without),
        suspicious=tuple(one.of for one in ranked[:_SHOWN]),
    )


def predict_study(series: Sequence[SeriesPrediction]) -> SeriesPrediction:
    """Return the answer for a study: that of its most suspicious series of the brain, if it has one.

    Sequences show different things: a tumour that is plain in FLAIR may be invisible in T1.
    """
    brain = [one for one in series if one.prediction != "Not a brain MRI"]
    return max(brain or series, key=lambda one: one.probability)


def _placed(slices: Sequence[SlicePrediction]) -> list[_Slice]:
    """Return the slices in order of place, less suspicious where the model is known to err."""
    if any(one.position_mm is None for one in slices):
        places = {one.scan_id: float(number) for number, one in enumerate(sorted(slices, key=lambda one: one.scan_id))}
    else:
        places = {one.scan_id: float(one.position_mm or 0) for one in slices}
    ordered = sorted(slices, key=lambda one: places[one.scan_id])
    return [
        _Slice(one, places[one.scan_id], _log_odds(one.probability) - _penalty(one, places, len(slices)))
        for one in ordered
    ]


def _penalty(one: SlicePrediction, places: dict[str, float], count: int) -> float:
    low, high = min(places.values()), max(places.values())
    if count < _PLACED_FROM or high == low:
        return 0.0
    height = (places[one.scan_id] - low) / (high - low)
    lower = _LOW_SHARE if one.plane == "axial" and one.position_mm is not None else _EDGE_SHARE
    return _OUTLYING if height < lower or height > 1 - _EDGE_SHARE else 0.0


def _most_suspicious(slices: list[_Slice]) -> list[_Slice]:
    """Return the run of neighbours with the highest mean log-odds among the shortest runs allowed."""
    extent = slices[-1].place_mm - slices[0].place_mm
    known = slices[0].of.position_mm is not None
    least, length = min(_RUN_SLICES, len(slices)), min(_RUN_MM, extent) if known else 0.0
    best, highest, end, total = slices, float("-inf"), 0, 0.0
    for start, first in enumerate(slices):
        while end < len(slices) and (end - start < least or slices[end - 1].place_mm - first.place_mm < length):
            total += slices[end].log_odds
            end += 1
        if end - start < least or slices[end - 1].place_mm - first.place_mm < length:
            break  # no run that starts here or later is long enough
        if total / (end - start) > highest:
            best, highest = slices[start:end], total / (end - start)
        total -= first.log_odds
    return best


def _each_left_out(slices: list[_Slice]) -> list[list[_Slice]]:
    if len(slices) == 1:
        return []
    return [slices[:number] + slices[number + 1 :] for number in range(len(slices))]


def _probability(run: list[_Slice], count: int) -> float:
    bias = _BIAS if count >= _RUN_SLICES else 0.0
    return 1 / (1 + exp(bias - sum(one.log_odds for one in run) / len(run)))


def _not_a_brain(slices: Sequence[SlicePrediction]) -> SeriesPrediction:
    ranked = sorted(slices, key=lambda one: one.probability, reverse=True)
    middle = ranked[len(ranked) // 2].probability
    return SeriesPrediction(
        prediction="Not a brain MRI",
        probability=middle,
        lowest_probability=ranked[-1].probability,
        highest_probability=ranked[0].probability,
        suspicious=tuple(ranked[:1]),
    )


def _log_odds(probability: float) -> float:
    if probability in (0, 1):
        return _CERTAIN if probability else -_CERTAIN
    return max(-_CERTAIN, min(_CERTAIN, log(probability / (1 - probability))))
