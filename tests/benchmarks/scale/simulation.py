"""The pipeline in a discrete-event simulation: uploads arrive, topics push, steps run, and are counted exactly.

Sizes, retries and topics are read from Terraform, service times from docs/operations/service_times.toml. A rate that is
too high to be followed event by event is simulated as one of `slices` equal parts: a part of the arrivals meets a part
of the instances, as a load balancer would deal them out.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from random import Random
from typing import Any

import simpy

from local.stack.terraform_config import ROOT, declared, seconds
from tests.benchmarks.scale.delivery import Policy, Subscription
from tests.benchmarks.scale.fleet import Fleet, Process, Size

TIMES = ROOT / "docs" / "operations" / "service_times.toml"
STEPS = ("validate_scan", "record_scan", "score_scan", "write_features")
SERVICES = (*STEPS, "inference")
_SAMPLED_S = 1
_INFERENCE = {"cpu": "2", "memory": "2Gi", "concurrency": 32}
"""As terraform/services.tf has it; what it has no `locals` for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the pipeline runs: what a call takes there."""

    processor_s: Mapping[str, float]
    """Of a call of each service."""
    wait_s: Mapping[str, float]
    hop_s: float
    sizes: Mapping[str, Size]
    cores: int = 0
    """Processors that everything shares; 0: every instance has its own."""
    widest: float = 3000
    """Pushes in flight of one subscription at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What arrives, and what goes wrong."""

    rate: Callable[[float], float]
    """Scans per second at a time in seconds."""
    lasts_s: float
    """How long scans arrive; the simulation goes on until all are done, or for `patience_s`."""
    patience_s: float = 3600
    outage: tuple[float, float] = (0, 0)
    """When every service is down."""
    slices: int = 1
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of it. Figures of a sliced scenario are of the whole again, but for those of single scans."""

    arrived: int
    latencies: list[tuple[float, float]]
    """Of each scored scan: when it arrived, and the seconds until its answer was recorded."""
    finished: int
    """Scans that are recorded, scored and have features."""
    dead: int
    """Messages that became dead letters."""
    refusals: int
    drained_s: float
    """When the last message was acknowledged."""
    instances: dict[str, int]
    """At most, of each service."""
    billed_s: dict[str, float]
    processor_s: dict[str, float]
    timeline: list[tuple[float, int, int]] = field(default_factory=list)
    """Each second: time, messages waiting, instances."""


def simulate(place: Place, scenario: Scenario) -> Outcome:
    """Return what becomes of a scenario at a place."""
    return _Run(place, scenario).outcome()


class _Run:
    def __init__(self, place: Place, scenario: Scenario) -> None:
        self._env, self._place, self._scenario = simpy.Environment(), place, scenario
        self._random = Random(scenario.seed)
        machine = simpy.Resource(self._env, place.cores) if place.cores else None
        self._fleets = {
            name: Fleet(self._env, _part(size, scenario.slices), self._random, machine, scenario.outage)
            for name, size in place.sizes.items()
        }
        policy = _policy(place, scenario.slices)
        self._steps = {name: Subscription(self._env, policy, getattr(self, f"_{name}")) for name in STEPS}
        self._arrived: list[float] = []
        self._done: list[int] = []
        self._latencies: list[tuple[float, float]] = []
        self._timeline: list[tuple[float, int, int]] = []
        self._is_over = False

    def outcome(self) -> Outcome:
        """Run to the end."""
        self._env.process(self._arrivals())
        self._env.process(self._sample())
        end = self._scenario.lasts_s + self._scenario.patience_s
        while self._env.peek() < end and not (self._is_over and not self._backlog):
            self._env.step()
        used = {name: fleet.used for name, fleet in self._fleets.items()}
        slices = self._scenario.slices
        return Outcome(
            arrived=len(self._arrived) * slices,
            latencies=self._latencies,
            finished=sum(done == 3 for done in self._done) * slices,
            dead=sum(step.dead for step in self._steps.values()) * slices,
            refusals=sum(each.refusals for each in used.values()) * slices,
            drained_s=self._env.now,
            instances={name: each.most_instances * slices for name, each in used.items()},
            billed_s={name: each.billed_s * slices for name, each in used.items()},
            processor_s={name: each.processor_s * slices for name, each in used.items()},
            timeline=self._timeline,
        )

    @property
    def _backlog(self) -> int:
        return sum(step.backlog for step in self._steps.values())

    def _arrivals(self) -> Process:
        """Uploads as a Poisson process whose rate may change."""
        while self._env.now < self._scenario.lasts_s:
            rate = self._scenario.rate(self._env.now) / self._scenario.slices
            yield self._env.timeout(self._random.expovariate(rate) if rate else _SAMPLED_S)
            if rate:
                self._arrive()
        self._is_over = True

    def _arrive(self) -> None:
        self._arrived.append(self._env.now)
        self._done.append(0)
        self._steps["validate_scan"].publish(len(self._arrived) - 1)

    def _sample(self) -> Process:
        slices = self._scenario.slices
        while True:
            running = sum(fleet.instances for fleet in self._fleets.values())
            self._timeline.append((self._env.now, self._backlog * slices, running * slices))
            yield self._env.timeout(_SAMPLED_S)

    def _serve(self, service: str, inner: Process | None = None) -> Process:
        yield from self._fleets[service].serve(self._place.processor_s[service], self._place.wait_s[service], inner)

    def _validate_scan(self, scan: int) -> Process:
        yield from self._serve("validate_scan")
        self._steps["record_scan"].publish(scan)
        self._steps["score_scan"].publish(scan)

    def _record_scan(self, scan: int) -> Process:
        yield from self._serve("record_scan")
        self._done[scan] += 1

    def _score_scan(self, scan: int) -> Process:
        yield from self._serve("score_scan", self._serve("inference"))
        arrived = self._arrived[scan]
        self._latencies.append((arrived, self._env.now - arrived))
        self._done[scan] += 1
        self._steps["write_features"].publish(scan)

    def _write_features(self, scan: int) -> Process:
        yield from self._serve("write_features")
        self._done[scan] += 1


def _part(size: Size, slices: int) -> Size:
    return Size(
        vcpu=size.vcpu,
        gib=size.gib,
        concurrency=size.concurrency,
        most=max(1, size.most // slices),
        start_s=size.start_s,
    )


def _policy(place: Place, slices: int) -> Policy:
    delivery = declared()["delivery"]
    return Policy(
        hop_s=place.hop_s,
        first_backoff_s=seconds(delivery["minimum_backoff"]),
        longest_backoff_s=seconds(delivery["maximum_backoff"]),
        most_attempts=delivery["max_delivery_attempts"],
        widest=max(4, place.widest / slices),
    )


@cache
def service_times() -> dict[str, Any]:
    """Return the sections of docs/operations/service_times.toml."""
    return tomllib.loads(TIMES.read_text())


def cloud(most: int | None = None, processor_ms: Mapping[str, float] | None = None) -> Place:
    """Return the cloud as Terraform declares it, with `most` instances of each service instead if given."""
    times = service_times()
    computed = processor_ms or times["processor_ms"]
    return Place(
        processor_s={name: computed[name] / 1000 for name in SERVICES},
        wait_s={name: times["cloud"]["wait_ms"][name] / 1000 for name in SERVICES},
        hop_s=times["cloud"]["push_ms"] / 1000,
        sizes={name: _size(name, most) for name in SERVICES},
        widest=times["cloud"]["push_window"],
    )


def machine(
    cores: int, processor_ms: Mapping[str, float] | None = None, wait_ms: Mapping[str, float] | None = None
) -> Place:
    """Return one machine with the stand-ins on it: one instance of each service, on the same processors.

    What the stand-ins compute for a scan is shared out to the services that call them.
    """
    times = service_times()
    waits = wait_ms or times["machine"]["wait_ms"]
    computed = processor_ms or times["processor_ms"]
    standing_in = times["stand_ins_ms"] if processor_ms is None else processor_ms["stand_ins"]
    return Place(
        processor_s={name: (computed[name] + standing_in / len(SERVICES)) / 1000 for name in SERVICES},
        wait_s={name: waits[name] / 1000 for name in SERVICES},
        hop_s=times["machine"]["push_ms"] / 1000,
        sizes={name: Size(vcpu=cores, gib=1, concurrency=64, most=1, start_s=0) for name in SERVICES},
        cores=cores,
        widest=times["machine"]["push_window"],
    )


def _size(name: str, most: int | None) -> Size:
    locals_ = declared()
    step = locals_["steps"].get(name, _INFERENCE)
    return Size(
        vcpu=ceil(float(step.get("cpu", 1))),
        gib=_gib(step.get("memory", "512Mi")),
        concurrency=step.get("concurrency", 64),
        most=most or step.get("max_instances", 10 if name == "inference" else 20),
        start_s=service_times()["cloud"]["start_s"][name],
    )


def _gib(text: str) -> float:
    return float(text[:-2]) / (1024 if text.endswith("Mi") else 1)
