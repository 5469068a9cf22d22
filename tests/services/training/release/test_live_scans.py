"""What live scans say of a challenger: paired where readers spoke, alike elsewhere."""

import pytest

from services.training.release.live_scans import Pair, compare


def pairs(*counts: tuple[int, str, str, str | None]) -> list[Pair]:
    """So many scans that champion and challenger called so, and that readers saw so."""
    return [
        Pair(champion=champion, challenger=challenger, reading=reading)
        for number, champion, challenger, reading in counts
        for _ in range(number)
    ]


ALIKE = [(80, "Cancer", "Cancer", None), (80, "Non-Cancer", "Non-Cancer", None)]


def test_a_challenger_that_is_alike_goes_on():
    comparison = compare(pairs(*ALIKE))
    assert comparison.reasons == []
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
    assert named in " ".join(compare(pairs(*ALIKE, more)).reasons)


def test_where_readers_spoke_differing_is_no_fault_of_the_better():
    comparison = compare(pairs(*ALIKE, (40, "Non-Cancer", "Cancer", "Cancer")))
    assert comparison.reasons == []
    assert comparison.figures["challenger_right"] == 1


def test_winning_on_healthy_scans_does_not_make_up_for_lost_tumours():
    comparison = compare(
        pairs(*ALIKE, (5, "Cancer", "Non-Cancer", "Cancer"), (20, "Cancer", "Non-Cancer", "Non-Cancer"))
    )
    assert "loses 5 and wins 0" in " ".join(comparison.reasons)


def test_what_chance_explains_keeps_nobody_back():
    assert compare(pairs(*ALIKE, (4, "Cancer", "Non-Cancer", "Cancer"))).reasons == []


def test_few_scans_say_nothing_yet():
    comparison = compare(pairs((99, "Cancer", "Cancer", None)))
    assert comparison.is_early
    assert "wait for 100" in comparison.reasons[0]
    assert compare([]).is_early
