"""Intervals of shares, for reports and for the dashboard alike."""

import math
from collections.abc import Iterable
from typing import NamedTuple

_Z = 1.959964
"""Of the normal distribution, for 95%."""


class Share(NamedTuple):
    """A share with its 95% interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def wilson(right: float, of: float, independent: float | None = None) -> Share:
    """Return right / of with Wilson's score interval (Wilson 1927), which is wide where little was counted.

    `independent`: how many of them are independent observations, such as persons; all if None.
    """
    if of <= 0:
        return Share(math.nan, math.nan, math.nan)
    share, n = right / of, of if independent is None else independent
    middle = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + _Z**2 / n) for sign in (-1, 1))
    return Share(share, max(low, 0.0), min(high, 1.0))


def effective(sizes: Iterable[float]) -> float:
    """Return Kish's effective number of groups of these sizes: as many as there are if all are alike."""
    known = list(sizes)
    return sum(known) ** 2 / sum(size**2 for size in known) if known else 0.0
