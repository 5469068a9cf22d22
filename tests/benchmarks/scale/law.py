"""The Universal Scalability Law: throughput of n workers, with what they wait for and what they must agree on.

X(n) = lambda n / (1 + sigma (n - 1) + kappa n (n - 1)); Gunther, "Guerrilla Capacity Planning", Springer 2007, chapter
4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares


@dataclass(frozen=True, slots=True)
class Law:
    """Throughput as a function of workers."""

    alone: float
    """Lambda: throughput of one worker."""
    contention: float
    """Sigma: share of the work that only one can do at a time."""
    coherence: float
    """Kappa: what each pair of workers costs."""

    def __call__(self, workers: float) -> float:
        """Return the throughput of so many workers."""
        others = workers - 1
        return self.alone * workers / (1 + self.contention * others + self.coherence * workers * others)


def fitted(throughput: Mapping[int, float]) -> Law:
    """Return the law that comes nearest, by relative error, to measured throughputs; at least two are needed."""
    workers, measured = np.array(list(throughput)), np.array(list(throughput.values()))

    def error(parameters: np.ndarray) -> np.ndarray:
        return np.array(Law(*parameters)(workers) / measured - 1)

    first = measured[0] / workers[0]
    found = least_squares(error, [first, 0.05, 0.001], bounds=([0, 0, 0], [np.inf, 1, 1]), x_scale=[first, 0.1, 0.01])
    return Law(*map(float, found.x))


def prediction_error(throughput: Mapping[int, float], held_out: int) -> float:
    """Return by what share the law of all other points misses the one that is held out."""
    others = {workers: value for workers, value in throughput.items() if workers != held_out}
    return abs(fitted(others)(held_out) / throughput[held_out] - 1)


def knee(offered: Mapping[float, float], served: float = 0.95) -> float:
    """Return the highest offered rate up to which at least such a share was served at every rate; 0 if there is none.

    `offered` maps rates to the throughput that was measured at each.
    """
    highest = 0.0
    for rate in sorted(offered):
        if offered[rate] < served * rate:
            break
        highest = rate
    return highest


def slope(times_s: list[float], values: list[float], warm_up: float = 0.2) -> float:
    """Return the least-squares slope per hour of samples, without the first share of the time."""
    start = times_s[0] + warm_up * (times_s[-1] - times_s[0])
    kept = [(time, value) for time, value in zip(times_s, values, strict=True) if time >= start]
    return float(np.polyfit(*zip(*kept, strict=True), 1)[0] * 3600)
