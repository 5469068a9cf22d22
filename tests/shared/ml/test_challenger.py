"""Which scans a challenger answers, and what ends it."""

import pytest

from shared.ml.challenger import Compared, at_least, breaches, in_canary

UNITS = [f"series {number}" for number in range(4000)]


def one(champion="Cancer", challenger="Cancer", champion_seconds=0.003, challenger_seconds=0.003) -> Compared:
    return Compared(
        champion=champion,
        challenger=challenger,
        champion_seconds=champion_seconds,
        challenger_seconds=challenger_seconds,
    )


def test_a_share_of_the_units_is_the_challengers():
    inside = sum(in_canary(unit, "2", 0.1) for unit in UNITS)
    assert 320 < inside < 480  # 400, and four standard deviations
    assert not any(in_canary(unit, "2", 0) for unit in UNITS)
    assert all(in_canary(unit, "2", 1) for unit in UNITS)


def test_a_larger_share_takes_nobody_back_and_another_challenger_meets_others():
    small = {unit for unit in UNITS if in_canary(unit, "2", 0.05)}
    assert small < {unit for unit in UNITS if in_canary(unit, "2", 0.2)}
    assert small != {unit for unit in UNITS if in_canary(unit, "3", 0.05)}


def test_a_challenger_that_answers_alike_stays():
    assert breaches([]) == []
    assert breaches([one()] * 500) == []
    assert breaches([one("Not a brain MRI", "Not a brain MRI")] * 500) == []


@pytest.mark.parametrize(
    ("seen", "named"),
    [
        ([one()] * 40 + [one(challenger=None)] * 3, "failed on 3 of 43"),
        ([one()] * 90 + [one(challenger="Not a brain MRI")] * 10, "refused 10 of 100"),
        ([one()] * 75 + [one(challenger="Non-Cancer")] * 25, "called 25 of 100"),
        ([one(challenger_seconds=0.0061)] * 20, "6.1 ms in the median"),
        ([one(challenger_seconds=5.0)] * 3, "over 1 s for 3"),
    ],
)
def test_what_leaves_its_band_is_told(seen, named):
    (reason,) = breaches(seen)
    assert named in reason


@pytest.mark.parametrize(
    "seen",
    [
        [one()] * 40 + [one(challenger=None)] * 2,
        [one()] * 97 + [one(challenger="Not a brain MRI")] * 3,
        [one()] * 88 + [one(challenger="Non-Cancer")] * 12,  # 12 of 100 where 10 are allowed is chance
        [one(challenger="Non-Cancer")] * 2,
        [one(challenger_seconds=0.0059)] * 500,
        [one(challenger_seconds=0.03)] * 19,
        [one(challenger_seconds=5.0)] * 2,
    ],
)
def test_what_chance_explains_ends_nothing(seen):
    assert breaches(seen) == []


def test_the_binomial_tail_is_exact():
    assert at_least(0, 10, 0.3) == pytest.approx(1)
    assert at_least(10, 10, 0.5) == pytest.approx(2**-10)
    assert at_least(8, 10, 0.5) == pytest.approx((45 + 10 + 1) / 1024)
