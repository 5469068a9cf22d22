"""A series is answered once it is complete or has waited long enough, and again only where it changed."""

from dataclasses import replace

from shared.ml.series_summary import AcceptedSlice, SeriesState, SliceScore, call_at, summary

QUIET_S = 30


def accepted(number: int) -> AcceptedSlice:
    return AcceptedSlice(
        scan_id=f"{number:064d}",
        name=f"Unlabelled/{number:064d}.png",
        label="Unlabelled",
        source="gateway",
        study_id="s" * 64,
        position_mm=5.0 * number,
        plane="axial",
    )


def score(number: int, version: str = "v1", probability: float = 0.05, at: int = 0) -> SliceScore:
    return SliceScore(
        scan_id=f"{number:064d}",
        model_version=version,
        probability=probability,
        prediction="Non-Cancer",
        threshold=0.5,
        tumour_type="glioma",
        predicted_at=f"2026-11-26T12:00:{at:02d}+00:00",
    )


def state(count: int, scored: int, quiet: float = 31, idle: float | None = None, **changes) -> SeriesState:
    return replace(
        SeriesState(
            series_id="i" * 64,
            slices=[accepted(number) for number in range(count)],
            scores=[score(number) for number in range(scored)],
            quiet_seconds=quiet,
            idle_seconds=quiet if idle is None else idle,
        ),
        **changes,
    )


def test_complete_and_quiet_series_is_answered() -> None:
    event = summary(state(20, 20), QUIET_S)
    assert (event.scored, event.accepted, event.prediction) == (20, 20, "Non-Cancer")
    assert event.suspicious[0].name == f"Unlabelled/{event.suspicious[0].scan_id}.png"


def test_series_that_still_arrives_is_not() -> None:
    assert summary(state(20, 20, quiet=29), QUIET_S) is None


def test_score_that_has_just_come_holds_up_no_answer() -> None:
    assert summary(state(20, 20, quiet=31, idle=0.1), QUIET_S)


def test_score_whose_slice_is_not_known_yet_is_waited_for() -> None:
    ahead = [score(number) for number in range(21)]
    assert summary(state(20, 0, scores=ahead), QUIET_S) is None
    assert summary(state(20, 0, quiet=601, scores=ahead), QUIET_S).scored == 20


def test_series_that_is_still_scored_after_ten_minutes_waits_on() -> None:
    assert summary(state(150, 143, quiet=900, idle=2), QUIET_S) is None


def test_series_with_a_slice_that_has_no_score_waits_ten_minutes() -> None:
    assert summary(state(150, 143), QUIET_S) is None
    assert summary(state(150, 143, quiet=599), QUIET_S) is None
    event = summary(state(150, 143, quiet=601), QUIET_S)
    assert (event.scored, event.accepted) == (143, 150)


def test_series_without_any_score_is_never_answered() -> None:
    assert summary(state(20, 0, quiet=7000), QUIET_S) is None


def test_same_slices_and_version_give_the_same_event_in_any_order() -> None:
    first = summary(state(20, 20), QUIET_S)
    again = state(20, 20)
    assert summary(replace(again, slices=again.slices[::-1], scores=again.scores[::-1]), QUIET_S) == first


def test_what_was_said_is_not_said_again() -> None:
    event = summary(state(20, 20), QUIET_S)
    assert summary(state(20, 20, quiet=7000, revisions=[event.revision]), QUIET_S) is None


def test_late_slice_revises_the_answer_after_twice_the_quiet() -> None:
    first = summary(state(19, 19), QUIET_S)
    assert summary(state(20, 20, quiet=59, revisions=[first.revision]), QUIET_S) is None
    second = summary(state(20, 20, quiet=61, revisions=[first.revision]), QUIET_S)
    assert second.previous_revision == first.revision
    assert second.revision != first.revision


def test_one_version_answers_for_the_whole_series() -> None:
    mixed = [*(score(number, "v1", at=1) for number in range(20)), *(score(number, "v2", at=2) for number in range(9))]
    event = summary(state(20, 0, scores=mixed), QUIET_S)
    assert (event.model_version, event.scored) == ("v1", 20)


def test_newer_version_answers_once_it_scored_as_many() -> None:
    both = [score(number, version, at=at) for version, at in (("v2", 9), ("v1", 1)) for number in range(20)]
    assert summary(state(20, 0, scores=both), QUIET_S).model_version == "v2"


def test_score_of_a_slice_that_is_not_of_the_series_does_not_count() -> None:
    assert summary(state(20, 0, scores=[score(number) for number in range(1, 21)]), QUIET_S) is None


def test_tumour_type_is_said_of_cancer_alone() -> None:
    ill = [score(number, probability=0.99 if 10 <= number < 15 else 0.02) for number in range(20)]
    assert summary(state(20, 0, scores=ill), QUIET_S).tumour_type == "glioma"
    assert summary(state(20, 20), QUIET_S).tumour_type is None


def test_call_comes_after_the_quiet_time_and_within_four_seconds_of_it() -> None:
    late = [call_at(now, QUIET_S) - now - QUIET_S for now in (1000 + tenth / 10 for tenth in range(100))]
    assert min(late) >= 1
    assert max(late) <= 4


def test_slices_of_a_moment_ask_for_one_call() -> None:
    assert {call_at(1001 + tenth / 10, QUIET_S) for tenth in range(1, 31)} == {1035}


def test_score_after_the_quiet_time_asks_for_a_call_of_the_same_names() -> None:
    """A slice of half a minute ago and a score of now are answered by one call."""
    assert call_at(1001, QUIET_S) == call_at(1001 + QUIET_S, 0)
