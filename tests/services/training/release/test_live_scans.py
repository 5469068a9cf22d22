"""What live scans say of a challenger: paired where readers spoke, alike elsewhere, and no reader decides alone."""

import pytest

from services.training.release.live_scans import Comparison, Pair, compare

READERS = ("one", "two")
ALIKE = [(80, "Cancer", "Cancer", None), (80, "Non-Cancer", "Non-Cancer", None)]


def pairs(*counts: tuple[int, str, str, str | None], readers: tuple[str, ...] = READERS) -> list[Pair]:
    """So many scans that champion and challenger called so, and that all these readers saw so."""
    return [
        Pair(champion=champion, challenger=challenger, readings=dict.fromkeys(readers, reading) if reading else {})
        for number, champion, challenger, reading in counts
        for _ in range(number)
    ]


def passes(comparison: Comparison) -> bool:
    return not comparison.reasons


def test_a_challenger_that_is_alike_goes_on():
    comparison = compare(pairs(*ALIKE))
    assert passes(comparison)
    assert comparison.figures["scans"] == 160


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ((30, "Cancer", "Non-Cancer", None), "differently"),
        ((8, "Cancer", "Not a brain MRI", None), "refuses"),
        ((5, "Cancer", "Non-Cancer", "Cancer"), "loses 5 and wins 0"),
        ((5, "Non-Cancer", "Cancer", "Non-Cancer"), "readers call Non-Cancer"),
        ((5, "Cancer", "Not a brain MRI", "Cancer"), "loses 5"),
    ],
)
def test_what_speaks_against_it_is_told(more, named):
    comparison = compare(pairs(*ALIKE, more))
    assert named in " ".join(comparison.reasons)
    assert not comparison.is_open


def test_where_readers_spoke_differing_is_no_fault_of_the_better():
    comparison = compare(pairs(*ALIKE, (40, "Non-Cancer", "Cancer", "Cancer")))
    assert passes(comparison)
    assert (comparison.figures["challenger_right"], comparison.figures["readers"]) == (1, 2)


def test_winning_on_healthy_scans_does_not_make_up_for_lost_tumours():
    comparison = compare(
        pairs(*ALIKE, (5, "Cancer", "Non-Cancer", "Cancer"), (20, "Cancer", "Non-Cancer", "Non-Cancer"))
    )
    assert "loses 5 and wins 0" in " ".join(comparison.reasons)


def test_what_chance_explains_keeps_nobody_back():
    assert passes(compare(pairs(*ALIKE, (4, "Cancer", "Non-Cancer", "Cancer"))))


def test_few_scans_say_nothing_yet():
    comparison = compare(pairs((99, "Cancer", "Cancer", None)))
    assert comparison.is_open
    assert "wait for 100" in comparison.reasons[0]
    assert compare([]).is_open


def test_one_reader_who_lies_cannot_promote_a_challenger_that_differs_everywhere():
    lie = pairs((40, "Cancer", "Non-Cancer", "Non-Cancer"), readers=("liar",))
    comparison = compare([*pairs(*ALIKE), *lie])
    assert comparison.is_open
    assert "the only reader" in comparison.reasons[0]
    assert "another reader" in comparison.reasons[0]


def test_one_reader_who_lies_cannot_make_up_for_what_the_others_see_lost():
    honest = pairs((8, "Cancer", "Non-Cancer", "Cancer"))
    lie = pairs((8, "Non-Cancer", "Cancer", "Cancer"), readers=("liar",))
    assert not passes(compare([*pairs(*ALIKE), *honest, *lie]))


def test_one_reader_who_lies_cannot_keep_a_challenger_back():
    lie = pairs((9, "Cancer", "Non-Cancer", "Cancer"), readers=("liar",))
    comparison = compare([*pairs(*ALIKE), *pairs((20, "Cancer", "Cancer", "Cancer")), *lie])
    assert comparison.is_open
    assert "one of 3 readers" in comparison.reasons[0]


def test_two_readers_of_a_scan_outvote_one_who_lies():
    outvoted = {"liar": "Cancer", "one": "Non-Cancer", "two": "Non-Cancer"}
    lie = [Pair(champion="Cancer", challenger="Non-Cancer", readings=outvoted)] * 9
    assert passes(compare([*pairs(*ALIKE), *lie]))


def test_readers_who_contradict_each_other_leave_a_scan_unread():
    assert Pair(champion="Cancer", challenger="Cancer", readings={"a": "Cancer", "b": "Non-Cancer"}).reading is None
    assert Pair(champion="Cancer", challenger="Cancer").reading is None


def test_a_reader_who_changes_no_verdict_needs_no_second():
    comparison = compare(pairs(*ALIKE, (20, "Cancer", "Cancer", "Cancer"), readers=("one",)))
    assert passes(comparison)
    assert not comparison.is_open
