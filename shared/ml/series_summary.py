"""When a series is complete, and what is said of it then. Pure: the same rows and time give the same event."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.events import ScoredSlice, SeriesSummarised
from shared.ml.series import SlicePrediction, predict_series

_GIVE_UP_S = 600
"""A series whose slices are not all scored by then is summarised as it is."""
_MAX_QUIET_S = 3600
BUCKET_S = 3
"""Series that become quiet within so long are answered by one call, which costs some queries whatever it finds."""
_SEEN_AFTER_S = 1
"""A row that was stored is seen by a query within a second, and two machines' clocks differ by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedSlice:
    """A slice that belongs to a series."""

    scan_id: str
    name: str
    label: str
    source: str
    study_id: str | None
    position_mm: float | None
    plane: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScore:
    """One model version's prediction of a slice."""

    scan_id: str
    model_version: str
    probability: float
    prediction: str
    threshold: float
    tumour_type: str | None
    predicted_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """All that is known of a series."""

    series_id: str
    slices: Sequence[AcceptedSlice]
    scores: Sequence[SliceScore]
    quiet_seconds: float
    """Since the last slice arrived."""
    idle_seconds: float
    """Since the last slice or score arrived."""
    revisions: Sequence[str] = ()
    """What was said before, oldest first."""


def summary(state: SeriesState, quiet_after_s: float) -> SeriesSummarised | None:
    """Return what is to be said of a series now; None while it is not complete, or where it was said before.

    Scores may come while it is quiet: an answer waits for the last slice's quiet time, not again for that of its score.
    The quiet time doubles with each revision, so that a scanner that trickles is not answered for every slice.
    """
    patience = min(quiet_after_s * 2 ** len(state.revisions), _MAX_QUIET_S)
    if state.quiet_seconds < patience or not state.slices:
        return None
    version = _version(state)
    scores = {score.scan_id: score for score in state.scores if score.model_version == version}
    scored = [one for one in state.slices if one.scan_id in scores]
    # A score without its slice says that a slice is on its way.
    complete = len(scored) == len(state.slices) == len(scores)
    if not scored or (not complete and state.idle_seconds < max(_GIVE_UP_S, patience)):
        return None
    revision = _revision([one.scan_id for one in scored], version)
    if revision in state.revisions:
        return None
    return _summarised(state, scored, scores, revision)


def call_at(now_s: float, quiet_after_s: float) -> int:
    """Return when to ask for the answer of a series that nothing comes for after now; both in seconds since 1970.

    Times are multiples of three seconds, so that many slices of many series ask for the same call.
    """
    return math.ceil((now_s + quiet_after_s + _SEEN_AFTER_S) / BUCKET_S) * BUCKET_S


def _version(state: SeriesState) -> str:
    """Return the latest model version that scored most of the slices."""
    known = {one.scan_id for one in state.slices}
    counts = Counter(score.model_version for score in state.scores if score.scan_id in known)
    latest = {score.model_version: score.predicted_at for score in sorted(state.scores, key=lambda s: s.predicted_at)}
    return max(counts, key=lambda version: (counts[version], latest[version]), default="")


def _revision(scan_ids: Sequence[str], version: str) -> str:
    return hashlib.sha256("\n".join([*sorted(scan_ids), version]).encode()).hexdigest()


def _summarised(
    state: SeriesState, scored: Sequence[AcceptedSlice], scores: Mapping[str, SliceScore], revision: str
) -> SeriesSummarised:
    first = scored[0]
    threshold = scores[first.scan_id].threshold
    answer = predict_series([_prediction(one, scores[one.scan_id]) for one in scored], threshold)
    by_id = {one.scan_id: one for one in scored}
    return SeriesSummarised(
        series_id=state.series_id,
        study_id=first.study_id,
        label=first.label,
        source=first.source,
        revision=revision,
        previous_revision=state.revisions[-1] if state.revisions else None,
        model_version=scores[first.scan_id].model_version,
        prediction=answer.prediction,
        probability=answer.probability,
        lowest_probability=answer.lowest_probability,
        highest_probability=answer.highest_probability,
        threshold=threshold,
        tumour_type=scores[answer.suspicious[0].scan_id].tumour_type if answer.prediction == "Cancer" else None,
        scored=len(scored),
        accepted=len(state.slices),
        suspicious=[_scored_slice(by_id[one.scan_id], one) for one in answer.suspicious],
        answered_at=max(scores[one.scan_id].predicted_at for one in scored),
    )


def _prediction(one: AcceptedSlice, score: SliceScore) -> SlicePrediction:
    return SlicePrediction(
        scan_id=one.scan_id,
        probability=score.probability,
        prediction=score.prediction,
        position_mm=one.position_mm,
        plane=one.plane,
    )


def _scored_slice(one: AcceptedSlice, prediction: SlicePrediction) -> ScoredSlice:
    return ScoredSlice(
        scan_id=one.scan_id,
        name=one.name,
        probability=prediction.probability,
        prediction=prediction.prediction,
        position_mm=one.position_mm,
    )
