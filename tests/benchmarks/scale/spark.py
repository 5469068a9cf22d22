"""Dataproc in a discrete-event simulation: every hour what has arrived is cut into manifests, a batch of Spark each."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import simpy

from tests.benchmarks.cost import PRICES, USAGE
from tests.benchmarks.scale.fleet import Process

MANIFEST = 50_000
"""Scans of a batch at most, as start_preprocessing writes them."""
_START_S = 120
"""Of a batch: machines and Spark's session. An assumption."""
_EXECUTORS, _CORES = 50, 4
"""Of a batch at most, and of an executor, as terraform/dataproc.tf has them."""
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Prepared:
    """How Spark keeps up with a rate of scans."""

    batches_an_hour: int
    lag_s: float
    """From an hour's end until the last of its batches is done, in the last hour that was looked at."""
    cores: int
    """That an hour of scans needs to be prepared within an hour."""
    dollars_an_hour: float


def prepare(rate: float, cores: int, hours: int = 4) -> Prepared:
    """Return how batches keep up with a rate of scans per second on at most so many cores at a time."""
    env = simpy.Environment()
    free = simpy.Container(env, init=cores, capacity=cores)
    each = min(cores, _EXECUTORS * _CORES)
    core_s = USAGE.spark.core_hours_10m * _HOUR_S / 1e7
    scans = round(rate * _HOUR_S)
    done: list[float] = []

    def batch(size: int) -> Process:
        wanted = min(each, max(_CORES, ceil(size * core_s / _START_S)))  # as many as end in the time of a start
        yield free.get(wanted)
        yield env.timeout(_START_S + size * core_s / wanted)
        yield free.put(wanted)
        done.append(env.now)

    def schedule() -> Process:
        for _ in range(hours):
            yield env.timeout(_HOUR_S)
            for size in _manifests(scans):
                env.process(batch(size))

    env.process(schedule())
    env.run()
    batches = ceil(scans / MANIFEST)
    return Prepared(batches, max(done) - hours * _HOUR_S, ceil(scans * core_s / _HOUR_S), _dollars(scans, batches))


def _manifests(scans: int) -> Iterator[int]:
    for first in range(0, scans, MANIFEST):
        yield min(MANIFEST, scans - first)


def _dollars(scans: int, batches: int) -> float:
    start = USAGE.spark.batch_dcu * USAGE.spark.batch_minutes / 60
    work = scans / 1e7 * USAGE.spark.core_hours_10m * USAGE.spark.dcu_a_core
    return (batches * start + work) * PRICES.spark.dcu_hour
