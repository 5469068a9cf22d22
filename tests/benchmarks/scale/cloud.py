"""The cloud, asked by simulation: what some rates, a morning peak and an outage do to latency, instances and money."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tests.benchmarks import cost
from tests.benchmarks.scale.simulation import SERVICES, Outcome, Place, Scenario, cloud, service_times, simulate
from tests.benchmarks.scale.spark import prepare

Figures = dict[str, float]
_PEAK_S, _PEAK_WIDTH_S = 1800, 600
_OUTAGE = (600.0, 2400.0)
_RAISED = 1000
"""Instances of each service at most, once the quota has been raised."""
_SETTLED_S = 60
"""What comes earlier meets a pipeline without instances."""
_SPARK_CORES = {1: 24, 100: 200, 10_000: 2000}
"""A new project has 24; more is asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """A scenario, and where it happens."""

    name: str
    place: Place
    scenario: Scenario
    mean_rate: float
    """Scans per second, for what is paid by the scan."""


def questions(processor_ms: Mapping[str, float] | None = None) -> list[Question]:
    """Return what the cloud is asked."""
    deployed, raised = cloud(processor_ms=processor_ms), cloud(_RAISED, processor_ms)
    peak = Scenario(rate=morning, lasts_s=2 * _PEAK_S, slices=5)
    outage = Scenario(rate=lambda _: 20, lasts_s=3600, patience_s=7200, outage=_OUTAGE)
    return [
        Question("1", deployed, Scenario(rate=lambda _: 1, lasts_s=1800), 1),
        Question("100", deployed, Scenario(rate=lambda _: 100, lasts_s=300, slices=2), 100),
        Question("1000_as_deployed", deployed, Scenario(rate=lambda _: 1000, lasts_s=120, slices=10), 1000),
        Question("10000", raised, Scenario(rate=lambda _: 10_000, lasts_s=150, slices=50), 10_000),
        Question("peak", deployed, peak, sum(map(morning, range(2 * _PEAK_S))) / 2 / _PEAK_S),
        Question("outage", deployed, outage, 20),
    ]


def morning(second: float) -> float:
    """Return scans per second of an hour in which all wards begin: 10, and 150 at its height."""
    return 10 + 140 * math.exp(-(((second - _PEAK_S) / _PEAK_WIDTH_S) ** 2))


def figures(question: Question, outcome: Outcome) -> Figures:
    """Return what a scenario comes to."""
    seconds = np.array([latency for _, latency in outcome.latencies])
    settled = np.array([latency for arrived, latency in outcome.latencies if arrived > _SETTLED_S])
    lasts_s = question.scenario.lasts_s
    dollars = compute_dollars(question.place, outcome) / lasts_s * 3600 + platform_dollars(question.mean_rate)
    return {
        "arrived": outcome.arrived,
        "unfinished": outcome.arrived - outcome.finished,
        "p50_s": float(np.median(settled)),
        "p95_s": float(np.percentile(settled, 95)),
        "p99_s": float(np.percentile(settled, 99)),
        "longest_s": float(seconds.max()),
        "most_waiting": max(waiting for _, waiting, _ in outcome.timeline),
        "instances": max(running for *_, running in outcome.timeline),
        "refused": outcome.refusals,
        "dead_letters": outcome.dead,
        "drained_s": max(0.0, outcome.drained_s - lasts_s),
        "dollars_an_hour": dollars,
        "dollars_1000_scans": dollars / question.mean_rate / 3.6,
    }


def compute_dollars(place: Place, outcome: Outcome) -> float:
    """Return what the instances cost while they had calls or started."""
    price = cost.PRICES.run
    return sum(
        seconds * (place.sizes[name].vcpu * price.vcpu_second + place.sizes[name].gib * price.gib_second)
        for name, seconds in outcome.billed_s.items()
    )


def platform_dollars(rate: float) -> float:
    """Return dollars an hour for what is paid by the scan: requests, objects, messages, rows, logs; Spark is apart."""
    month = cost.by_scans(round(rate * cost.MONTH_S))
    simulated = ("functions", "inference", "Spark")
    paid = sum(value for name, value in month.items() if not name.startswith(simulated))
    requests = (cost.function_calls() + 1) * rate * 3600 / 1e6 * cost.PRICES.run.million_requests
    return paid / cost.MONTH_S * 3600 + requests


def limits(rate: float, processor_ms: Mapping[str, float]) -> Figures:
    """Return what a rate takes of the limits that a new project has: 1 is all of it."""
    scan = cost.USAGE.scan
    return {
        "vcpu": rate * sum(processor_ms[name] for name in SERVICES) / 1000 / 20,
        "bucket_writes": rate / 1000,
        "streamed_rows": rate * scan.rows_kib / 1024 / 300,
    }


def ask(processor_ms: Mapping[str, float] | None = None) -> tuple[Figures, dict[str, list[tuple[float, int, int]]]]:
    """Return the figures of all questions, and of each its messages waiting and instances second by second."""
    found: Figures = {}
    timelines = {}
    for question in questions(processor_ms):
        outcome = simulate(question.place, question.scenario)
        timelines[question.name] = outcome.timeline
        found |= {f"cloud_{question.name}_{name}": value for name, value in figures(question, outcome).items()}
        print(f"  cloud {question.name}: {outcome.arrived:,} scans", flush=True)
    for rate, cores in _SPARK_CORES.items():
        prepared = prepare(rate, cores)
        found |= {
            f"cloud_{rate}_spark_batches_an_hour": prepared.batches_an_hour,
            f"cloud_{rate}_spark_lag_s": prepared.lag_s,
            f"cloud_{rate}_spark_cores": prepared.cores,
            f"cloud_{rate}_spark_dollars_an_hour": prepared.dollars_an_hour,
        }
        shares = limits(rate, processor_ms or service_times()["processor_ms"])
        found |= {f"cloud_{rate}_share_of_{limit}": share for limit, share in shares.items()}
    return found, timelines
