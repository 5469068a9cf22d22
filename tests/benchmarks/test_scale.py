"""The scalability report's arithmetic and its simulation, on cases whose answers are known."""

import itertools
import math
from random import Random

import numpy as np
import pytest
import simpy

from tests.benchmarks.scale import cloud, law, report, spark
from tests.benchmarks.scale.__main__ import PARTS
from tests.benchmarks.scale.delivery import Policy, Subscription
from tests.benchmarks.scale.fleet import Fleet, Process, Refused, Size
from tests.benchmarks.scale.simulation import Scenario, machine, simulate
from tests.benchmarks.scale.simulation import cloud as in_the_cloud

ACCOUNT = ("account_s", "account_processor_s", "account_rss_mb", "worklist_s", "worklist_processor_s")
POLICY = Policy(hop_s=0.01, first_backoff_s=10, longest_backoff_s=600, most_attempts=5, widest=100)


def test_the_law_is_found_again_and_predicts_a_held_out_point() -> None:
    known = law.Law(30.0, 0.08, 0.004)
    measured = {workers: known(workers) for workers in (1, 2, 3, 4, 8)}
    found = law.fitted({workers: measured[workers] for workers in (1, 2, 4)})
    assert (found.alone, found.contention, found.coherence) == pytest.approx((30.0, 0.08, 0.004), rel=1e-3)
    assert law.prediction_error(measured, held_out=8) < 1e-3


def test_a_point_that_breaks_the_law_is_told() -> None:
    assert law.prediction_error({1: 10, 2: 20, 3: 60, 4: 40}, held_out=3) == pytest.approx(0.5, abs=0.01)


def test_the_knee_is_the_last_rate_before_the_first_that_was_not_served() -> None:
    assert law.knee({10: 10, 20: 19.5, 40: 30, 50: 50}) == 20
    assert law.knee({10: 5}) == 0


def test_the_slope_leaves_the_warm_up_out() -> None:
    times = [float(second) for second in range(100)]
    values = [500.0 + second if second < 20 else 520 + (second - 20) / 3600 for second in times]
    assert law.slope(times, values) == pytest.approx(1)


def served(size: Size, rate: float, seconds: float, processor_s: float) -> tuple[list[float], Fleet]:
    """Seconds that each of a Poisson stream of calls took."""
    env, random, took = simpy.Environment(), Random(1), list[float]()
    fleet = Fleet(env, size, random)

    def call() -> Process:
        began = env.now
        yield from fleet.serve(processor_s, 0)
        took.append(env.now - began)

    def calls() -> Process:
        while env.now < seconds:
            yield env.timeout(random.expovariate(rate))
            env.process(call())

    env.process(calls())
    env.run(seconds + 60)
    return took, fleet


def test_a_single_processor_waits_as_queueing_theory_says() -> None:
    """M/G/1: Pollaczek and Khinchine, with the lognormal's own spread."""
    size = Size(vcpu=1, gib=1, concurrency=10_000, most=1, start_s=0)
    took, _ = served(size, rate=50, seconds=400, processor_s=0.01)
    second_moment = 0.01**2 * math.exp(0.35**2)
    assert np.mean(took) == pytest.approx(0.01 + 50 * second_moment / 2 / (1 - 50 * 0.01), rel=0.08)


def test_instances_come_until_processors_are_used_to_sixty_percent() -> None:
    _, fleet = served(Size(vcpu=1, gib=1, concurrency=80, most=100, start_s=2), rate=300, seconds=60, processor_s=0.01)
    assert fleet.used.most_instances >= 5, "three processors' work at 60%"
    assert fleet.used.processor_s == pytest.approx(60 * 3, rel=0.05)
    assert fleet.used.billed_s > fleet.used.processor_s / 2


def test_a_fleet_without_a_place_refuses_after_ten_seconds() -> None:
    env = simpy.Environment()
    fleet = Fleet(env, Size(vcpu=1, gib=1, concurrency=1, most=1, start_s=1), Random(1))
    refused: list[float] = []

    def call() -> Process:
        try:
            yield from fleet.serve(60, 0)
        except Refused:
            refused.append(env.now)

    env.process(call())
    env.process(call())
    env.run(100)
    assert refused == [10]


def test_a_message_is_tried_again_with_backoff_and_ends_as_a_dead_letter() -> None:
    env, tried = simpy.Environment(), list[float]()

    def step(_: int) -> Process:
        tried.append(env.now)
        yield env.timeout(0)
        raise Refused

    subscription = Subscription(env, POLICY, step)
    subscription.publish(0)
    env.run(1000)
    assert [round(after - before) for before, after in itertools.pairwise(tried)] == [10, 20, 40, 80]
    assert (subscription.dead, subscription.backlog) == (1, 0)


@pytest.mark.parametrize("outage", [(0, 0), (20, 50)])
def test_nothing_is_lost_in_the_simulation(outage: tuple[float, float]) -> None:
    outcome = simulate(in_the_cloud(), Scenario(rate=lambda _: 5, lasts_s=60, outage=outage))
    assert outcome.arrived > 200
    assert outcome.finished == outcome.arrived
    assert (outcome.dead, outcome.refusals > 0) == (0, outage != (0, 0))


def test_one_machine_takes_no_more_than_its_processors_allow() -> None:
    place = machine(2)
    most = 2 / sum(place.processor_s.values())
    outcome = simulate(place, Scenario(rate=lambda _: 2 * most, lasts_s=30))
    assert outcome.arrived / outcome.drained_s == pytest.approx(most, rel=0.05)


def test_a_part_of_the_scenario_stands_for_the_whole() -> None:
    whole = simulate(in_the_cloud(100), Scenario(rate=lambda _: 40, lasts_s=60, seed=1))
    part = simulate(in_the_cloud(100), Scenario(rate=lambda _: 40, lasts_s=60, slices=4, seed=2))
    assert part.arrived == pytest.approx(whole.arrived, rel=0.1)
    settled = [np.median([took for at, took in each.latencies if at > 20]) for each in (whole, part)]
    assert settled[1] == pytest.approx(settled[0], rel=0.1)


def test_figures_of_a_question_are_told_in_money() -> None:
    question = cloud.Question("few", in_the_cloud(), Scenario(rate=lambda _: 2, lasts_s=100), 2)
    found = cloud.figures(question, simulate(question.place, question.scenario))
    assert found["unfinished"] == 0
    assert 0.1 < found["p50_s"] <= found["p95_s"] <= found["longest_s"]
    assert found["dollars_1000_scans"] == pytest.approx(found["dollars_an_hour"] / 7.2)


def test_spark_keeps_up_only_with_cores_for_an_hour_of_scans() -> None:
    assert spark.prepare(1000, cores=200).lag_s < 3600
    behind = [spark.prepare(10_000, cores=24, hours=hours).lag_s for hours in (2, 4)]
    assert behind[1] > behind[0] > 3600


def test_a_part_is_written_between_its_marks_and_nothing_else_changes() -> None:
    text = report.PAGE.read_text()
    figures = {f"accounts_{size}_{name}": 12.3 for size in (100_000, 1_000_000) for name in ACCOUNT}
    written = report.page(text, {"accounts": None}, figures | {"accounts_load_before": 0.5})
    before, _, after = written.partition("| its memory at most, MB | 12.3 | 12.3 |")
    assert after
    assert text.startswith(before[: before.index("<!-- accounts -->")])
    assert text.endswith(after[after.index("<!-- end -->") :])


def test_every_part_has_its_place_on_the_page() -> None:
    text = report.PAGE.read_text()
    assert [part for part in PARTS if f"<!-- {part} -->\n" not in text] == []
