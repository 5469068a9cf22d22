"""A release that answers beside the champion, in shadow or for a share of the scans, and is watched meanwhile."""

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from services.inference.metrics import CHALLENGER
from shared.ml.challenger import WINDOW, Compared, breaches, in_canary
from shared.ml.model import FAILURES, Model, Prediction
from shared.ml.prediction import Role


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction, and whose it is."""

    prediction: Prediction
    model: Model
    role: Role = "champion"
    challenger_version: str | None = None
    """Release that would answer the same scan in shadow."""


class Challenger:
    """A loaded challenger and what this process has seen of it. Used from any number of threads."""

    def __init__(self, model: Model, share: float, left_band: Callable[["Challenger", list[str]], None]) -> None:
        """`share`: of the scans that it answers, 0 to 1; `left_band`: called with the reasons once it has."""
        self.model = model
        self.share = share
        self._left_band = left_band
        self._seen: deque[Compared] = deque(maxlen=WINDOW)
        self._lock = threading.Lock()

    def answers(self, unit: str) -> bool:
        """Return whether the scans of a unit (a series, else a file) are the challenger's to answer."""
        return in_canary(unit, self.model.card.version, self.share)

    def in_shadow(self, champion: Model, tensor: np.ndarray) -> Answer | None:
        """Return what the challenger says of a scan, compared with the champion's answer; None if it fails on it."""
        _, own = self._compare(champion, tensor)
        return Answer(own, self.model, "challenger") if own else None

    def in_its_place(self, champion: Model, tensor: np.ndarray) -> Answer:
        """Return the challenger's answer to a scan of its share, or the champion's if the challenger fails on it."""
        other, own = self._compare(champion, tensor)
        return Answer(own, self.model, "canary") if own else Answer(other, champion)

    def _compare(self, champion: Model, tensor: np.ndarray) -> tuple[Prediction, Prediction | None]:
        """Return what the champion and the challenger say. Raises what the champion raises, nothing of the other's."""
        start = perf_counter()
        own = _checked_prediction(self.model, tensor)
        between = perf_counter()
        other = champion.predict(tensor)
        self._see(
            Compared(
                champion=champion.predicted_class(other),
                challenger=self.model.predicted_class(own) if own else None,
                champion_seconds=perf_counter() - between,
                challenger_seconds=between - start,
            )
        )
        return other, own

    def _see(self, one: Compared) -> None:
        outcome = "agreed" if one.challenger == one.champion else "disagreed" if one.challenger else "failed"
        CHALLENGER.labels(outcome).inc()
        with self._lock:
            self._seen.append(one)
            seen = list(self._seen)
        if reasons := breaches(seen):
            self._left_band(self, reasons)


def answering(champion: Model, challenger: Challenger | None, unit: str) -> Callable[[np.ndarray], Answer]:
    """Return what answers the scans of a unit: the champion, or the challenger for a unit of its share."""
    if challenger is None:
        return partial(_answer, champion, None)
    if challenger.answers(unit):
        return partial(challenger.in_its_place, champion)
    return partial(_answer, champion, challenger.model.card.version)


def _answer(champion: Model, challenger_version: str | None, tensor: np.ndarray) -> Answer:
    return Answer(champion.predict(tensor), champion, "champion", challenger_version)


def _checked_prediction(model: Model, tensor: np.ndarray) -> Prediction | None:
    """Return the prediction; None if the graph fails, or says what is no probability."""
    try:
        prediction = model.predict(tensor)
    except FAILURES:
        return None
    is_one = 0 <= prediction.probability <= 1 and math.isfinite(prediction.ood_score)
    return prediction if is_one else None
