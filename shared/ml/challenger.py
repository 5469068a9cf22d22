"""A challenger beside the champion: which scans it answers, and when it has left the band it must stay in.

Both are compared on the same scans. The bands end a challenger by evidence against it; promotion asks for more
(services/training/release/live_scans.py).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from shared.ml.prediction import PredictedClass

WINDOW = 500
"""Scans that are looked back on."""

MOST_ERRORS = 2
MOST_REFUSED_MORE = 0.02
"""Share of the scans that the challenger may refuse beyond those that the champion refuses."""
MOST_DISAGREEMENT = 0.1
"""Share of the scans that the two may call differently."""
MOST_TIMES_SLOWER = 2.0
"""Of the median time in the network."""

_LEVEL = 0.001
"""Of each look: a challenger that is as good as its bands ask is looked at a few hundred times."""
_FEWEST_TIMED = 20
_TOO_LONG_S, _MOST_TOO_LONG = 1.0, 2
"""Answers of a second and more end a challenger before there are enough of them for a median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What both said of one scan, and the seconds that each took."""

    champion: PredictedClass
    challenger: PredictedClass | None
    """None if it raised, or returned what is no prediction."""
    champion_seconds: float
    challenger_seconds: float


def in_canary(unit: str, version: str, share: float) -> bool:
    """Return whether a challenger answers the scans of a unit: a series if there is one, else a file.

    By a hash of unit and version: the same unit is answered by the same model on every instance, a unit that is in at
    one share is in at every larger one, and each challenger meets other units.
    """
    digest = hashlib.sha256(f"{version}/{unit}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def breaches(seen: Sequence[Compared]) -> list[str]:
    """Return a sentence for each band that the challenger has left on these scans; none while it is within all."""
    answered = [one for one in seen if one.challenger is not None]
    found = [
        _errors(len(seen) - len(answered), len(seen)),
        _refusals(answered),
        _disagreement(answered),
        _latency(answered),
    ]
    return [reason for reason in found if reason]


def _errors(errors: int, scans: int) -> str:
    return f"It failed on {errors} of {scans} scans." if errors > MOST_ERRORS else ""


def _refusals(answered: Sequence[Compared]) -> str:
    refused = sum(is_refusal(one.challenger) and not is_refusal(one.champion) for one in answered)
    if not _exceeds(refused, len(answered), MOST_REFUSED_MORE):
        return ""
    return f"It refused {refused} of {len(answered)} scans that the champion took."


def _disagreement(answered: Sequence[Compared]) -> str:
    differing = sum(one.challenger != one.champion for one in answered)
    if not _exceeds(differing, len(answered), MOST_DISAGREEMENT):
        return ""
    return f"It called {differing} of {len(answered)} scans differently from the champion."


def _exceeds(found: int, scans: int, share: float) -> bool:
    """Return whether so many are more than the share allows, and not by chance."""
    return found > share * scans and at_least(found, scans, share) < _LEVEL


def _latency(answered: Sequence[Compared]) -> str:
    too_long = sum(one.challenger_seconds > max(_TOO_LONG_S, 10 * one.champion_seconds) for one in answered)
    if too_long > _MOST_TOO_LONG:
        return f"It took over {_TOO_LONG_S:g} s for {too_long} of {len(answered)} scans."
    if len(answered) < _FEWEST_TIMED:
        return ""
    own, other = (median(times) for times in zip(*map(_seconds, answered), strict=True))
    if own <= MOST_TIMES_SLOWER * other:
        return ""
    return f"It took {own * 1000:.1f} ms in the median, the champion {other * 1000:.1f} ms."


def _seconds(one: Compared) -> tuple[float, float]:
    return one.challenger_seconds, one.champion_seconds


def is_refusal(predicted: str | None) -> bool:
    """Return whether the predicted class is that of an image that is no brain MRI."""
    return predicted == "Not a brain MRI"


def at_least(successes: int, trials: int, probability: float) -> float:
    """Return the binomial probability of so many successes or more: the exact one-sided test's p-value."""
    return math.fsum(
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes, trials + 1)
    )
