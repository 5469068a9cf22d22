"""Every upload has one state, whatever became of its neighbours, and memory does not grow with them."""

import random
import tracemalloc
from collections import Counter
from typing import Any

import pytest

from shared.intake import reconciliation
from shared.intake.reconciliation import Check, Entry, State, missing, sorted_stream, upload_key, upload_states

OLD, NOW = "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00"


def upload(generation: int, content: str = "", label: str = "Cancer") -> Entry:
    return Entry(upload_key(generation, label), content or f"md5-{generation}", label, OLD, "name")


def record(generation: int, state: State = State.ACCEPTED, content: str = "", label: str = "Cancer") -> Entry:
    return Entry(upload_key(generation, label), content or f"md5-{generation}", label, OLD, state)


def states(uploads: list[Entry], records: list[Entry]) -> list[tuple[int, State]]:
    return [(int(entry.key[:20]), state) for entry, state in upload_states(sorted(uploads), sorted(records), NOW)]


def test_one_lost_and_one_withdrawn_do_not_cancel_out() -> None:
    """Counts of both sides agree here, and did pass."""
    found = states([upload(1), upload(2)], [record(1), record(3)])
    assert found == [(1, State.ACCEPTED), (2, State.LOST), (3, State.WITHDRAWN)]


def test_rejected_file_needs_no_record_outside_the_table() -> None:
    assert states([upload(1)], [record(1, State.REJECTED)]) == [(1, State.REJECTED)]


def test_pages_that_are_missing_are_told() -> None:
    assert states([upload(1)], [record(1, State.INCOMPLETE)]) == [(1, State.INCOMPLETE)]


def test_pages_that_came_later_complete_a_file() -> None:
    assert states([upload(1)], [record(1, State.INCOMPLETE), record(1)]) == [(1, State.ACCEPTED)]


def test_young_upload_is_under_way_and_not_lost() -> None:
    young = upload(1)._replace(uploaded_at=NOW)
    assert states([young, upload(2)], []) == [(1, State.UNDER_WAY), (2, State.LOST)]


def test_same_bytes_under_two_names_are_two_uploads_with_a_record_each() -> None:
    found = states([upload(1, "same"), upload(2, "same")], [record(1, content="same"), record(2, content="same")])
    assert [state for _, state in found] == [State.ACCEPTED] * 2


def test_objects_that_share_a_microsecond_are_told_apart_by_content() -> None:
    found = states([upload(1, "one"), upload(1, "two")], [record(1, content="one")])
    assert sorted(state for _, state in found) == [State.ACCEPTED, State.LOST]


def test_file_too_large_to_be_read_is_known_by_its_generation() -> None:
    unread = Entry(upload_key(1, "Cancer"), "", "Cancer", OLD, State.REJECTED)
    assert states([upload(1)], [unread]) == [(1, State.REJECTED)]


def test_same_generation_under_another_label_is_another_upload() -> None:
    assert [state for _, state in states([upload(1)], [record(1, label="Non-Cancer")])] == [
        State.LOST,
        State.WITHDRAWN,
    ]


def test_file_that_is_accepted_and_rejected_is_told() -> None:
    assert states([upload(1)], [record(1), record(1, State.REJECTED)]) == [(1, State.CONTRADICTED)]


def test_missing_keys_are_those_of_the_first_alone() -> None:
    assert list(missing(["a", "b", "b", "d"], ["a", "c"])) == ["b", "d"]


@pytest.mark.parametrize("count", [0, 1, 10, 2500])
def test_stream_is_sorted_whatever_its_length(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_RUN", 1000)
    entries = [upload(number) for number in range(count)]
    shuffled = random.Random(5).sample(entries, count)
    assert list(sorted_stream(shuffled, Entry._make)) == entries


def test_memory_does_not_grow_with_the_number_of_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_RUN", 2000)

    def peak(count: int) -> int:
        tracemalloc.start()
        uploads = sorted_stream((upload(count - number) for number in range(count)), Entry._make)
        records = sorted_stream((record(count - number) for number in range(count)), Entry._make)
        assert Counter(state for _, state in upload_states(uploads, records, NOW)) == {State.ACCEPTED: count}
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(40_000) < 1.5 * peak(10_000)


def test_file_recorded_twice_was_withdrawn_once() -> None:
    assert states([], [record(1), record(1), record(1, content="other")]) == [(1, State.WITHDRAWN)] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"states": Counter([State.LOST])},
        {"states": Counter([State.INCOMPLETE])},
        {"states": Counter([State.CONTRADICTED])},
        {"source_files": 2, "uncopied_files": 1},
        {"scans": 2, "unstored": 1},
        {"rehashed": 2, "mismatched": 1},
    ],
    ids=lambda wrong: list(wrong)[-1],
)
def test_check_fails_for_anything_that_is_wrong(wrong: dict[str, Any]) -> None:
    assert Check(label="Cancer", states=Counter([State.ACCEPTED, State.REJECTED, State.WITHDRAWN])).passed
    assert not Check(label="Cancer", **wrong).passed


def test_row_counts_what_has_had_its_time_and_was_not_withdrawn() -> None:
    every = Check(label="Cancer", states=Counter(State))
    assert every.row()["uploaded_files"] == len(State) - 2
    assert every.row()["recorded_files"] == 2
