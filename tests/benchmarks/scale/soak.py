"""A soak: a steady rate for as long as asked, while memory, file descriptors and rows are watched."""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.stack.system import Stack, running
from shared.gcp import bigquery
from tests.benchmarks.scale.bucket_load import jpegs, offer
from tests.benchmarks.scale.law import slope
from tests.benchmarks.scale.pipeline import Figures, await_features

_EVERY_S = 10
_ROWS = "SELECT COUNT(DISTINCT scan_id) AS n FROM {dataset}.features_raw"


@dataclass(slots=True)
class Samples:
    """What was seen, every ten seconds."""

    times_s: list[float] = field(default_factory=list)
    rss_mb: dict[str, list[float]] = field(default_factory=dict)
    """Of each process with its children."""
    descriptors: list[float] = field(default_factory=list)
    """Open files of all processes."""
    rows: list[float] = field(default_factory=list)
    """Scans with features."""


def measure(minutes: float, rate: float, data: Path | None) -> tuple[Figures, Samples]:
    """Return slopes per hour, without the first fifth of the time, and the samples they are taken from."""
    samples, over = Samples(), threading.Event()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        watch = threading.Thread(target=_watch, args=(stack, samples, over))
        watch.start()
        try:
            sent = offer(jpegs(data), rate, minutes * 60)
        finally:
            over.set()
            watch.join()
        await_features(sent)
        rows = bigquery.query(_ROWS)[0]["n"]
        restarts = stack.supervisor.restarts.total()
    each = {name: slope(samples.times_s, values) for name, values in samples.rss_mb.items()}
    grown = max(each, key=lambda name: each[name])
    return {
        "soak_minutes": minutes,
        "soak_scans_per_second": rate,
        "soak_scans": sent,
        "soak_lost": sent - rows,
        "soak_restarts": restarts,
        "soak_rss_mb": sum(values[-1] for values in samples.rss_mb.values()),
        "soak_rss_slope_mb_per_h": sum(each.values()),
        "soak_rss_steepest": grown,
        "soak_rss_steepest_mb_per_h": each[grown],
        "soak_descriptors": samples.descriptors[-1],
        "soak_descriptors_slope_per_h": slope(samples.times_s, samples.descriptors),
        "soak_rows_slope_per_h": slope(samples.times_s, samples.rows),
    }, samples


def _watch(stack: Stack, samples: Samples, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(_EVERY_S):
        samples.rows.append(bigquery.query(_ROWS)[0]["n"])
        samples.times_s.append(time.monotonic() - began)
        processes = stack.supervisor.processes()
        for name, process in processes.items():
            samples.rss_mb.setdefault(name, []).append(_sum(process, _rss_mb))
        samples.descriptors.append(sum(_sum(process, psutil.Process.num_fds) for process in processes.values()))


def _sum(process: psutil.Process, figure: Callable[[psutil.Process], float]) -> float:
    return sum(figure(member) for member in (process, *process.children(recursive=True)))


def _rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20
