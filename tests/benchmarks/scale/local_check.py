"""The simulation against this machine: what it predicts from single scans beside what was measured under load."""

import os
from collections.abc import Mapping

import numpy as np

from tests.benchmarks.scale.simulation import SERVICES, Outcome, Place, Scenario, machine, service_times, simulate

_PUSHED_AT = ("validate_scan", "record_scan", "score_scan", "write_features")


def compare(measured: Mapping[str, float | str], processor_ms: Mapping[str, float] | None) -> dict[str, float]:
    """Return what the simulation predicts for this machine, and by what share it misses what was measured."""
    place = machine(os.process_cpu_count() or 1, processor_ms, _waits(measured, processor_ms))
    most = 2 / sum(place.processor_s.values())
    crowd = simulate(place, Scenario(rate=lambda _: 2 * most, lasts_s=60))
    lone = simulate(place, Scenario(rate=lambda _: 0.5, lasts_s=200))
    predicted = {"most_scans_per_second": crowd.arrived / crowd.drained_s, "alone_s": _p50(lone)}
    beside = {"most_scans_per_second": "pipeline_most_scans_per_second", "alone_s": "alone_s"}
    if "burst_scans" in measured:
        predicted["burst_scans_per_second"] = _burst(place, measured)
        beside["burst_scans_per_second"] = "burst_scans_per_second"
    figures = {f"simulated_{name}": value for name, value in predicted.items()}
    errors = {
        f"simulation_error_{name}": abs(predicted[name] / float(measured[other]) - 1)
        for name, other in beside.items()
        if other in measured
    }
    return figures | errors


def _waits(measured: Mapping[str, float | str], processor_ms: Mapping[str, float] | None) -> dict[str, float]:
    """Return what a call of each service waits for, in ms: what a lone scan took without what was computed."""
    times = service_times()
    waits: dict[str, float] = dict(times["machine"]["wait_ms"])
    if processor_ms is None:
        return waits
    shared = processor_ms["stand_ins"] / len(SERVICES)
    for name in _PUSHED_AT:
        took = float(measured[f"alone_{name}_s"]) * 1000
        computed = processor_ms[name] + shared
        if name == "score_scan":
            computed += processor_ms["inference"] + shared + waits["inference"]
        waits[name] = max(0.0, took - computed - times["machine"]["push_ms"])
    return waits


def _burst(place: Place, measured: Mapping[str, float | str]) -> float:
    scans, seconds = float(measured["burst_scans"]), float(measured["burst_upload_s"])
    found = simulate(place, Scenario(rate=lambda _: scans / seconds, lasts_s=seconds))
    return found.arrived / found.drained_s


def _p50(outcome: Outcome) -> float:
    return float(np.median([seconds for _, seconds in outcome.latencies]))
