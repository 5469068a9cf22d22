"""One to four workers, each an inference service of one thread, pinned to a processor: the scaling law and its test.

A machine with fewer processors than workers gives every worker the same share of one, as Cloud Run does with a
fraction of a vCPU: a worker is stopped and continued in turn, out of step with the others.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import psutil

from tests.benchmarks.inference import SYSTEMS, running
from tests.benchmarks.scale.bucket_load import jpegs
from tests.benchmarks.scale.law import fitted, prediction_error

MOST, HELD_OUT = 4, 3
_CONNECTIONS = 4
_PERIOD_S = 0.05
_ROUNDS = 3


def measure(seconds: float, data: Path | None) -> tuple[dict[str, float], dict[int, float]]:
    """Return figures and the requests per second of one to four workers, medians of three rounds."""
    cores = sorted(psutil.Process().cpu_affinity())
    share = min(1.0, 0.8 * len(cores) / MOST)  # a fifth of the processors is left to the load
    images = jpegs(data)
    rounds: dict[int, list[float]] = {workers: [] for workers in range(1, MOST + 1)}
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.jpg"
        scan.write_bytes(images[0])
        with ExitStack() as started:
            services = [started.enter_context(_worker(scan, cores[n % len(cores)])) for n in range(MOST)]
            for _ in range(_ROUNDS):
                for workers, values in rounds.items():
                    values.append(_throughput(services[:workers], scan, seconds, share))
    measured = {workers: statistics.median(values) for workers, values in rounds.items()}
    law = fitted({workers: value for workers, value in measured.items() if workers != HELD_OUT})
    return {
        **{f"workers_{workers}_rps": value for workers, value in measured.items()},
        "worker_share_of_a_processor": share,
        "law_alone_rps": law.alone,
        "law_contention": law.contention,
        "law_coherence": law.coherence,
        "prediction_workers": HELD_OUT,
        "prediction_rps": law(HELD_OUT),
        "prediction_error": prediction_error(measured, HELD_OUT),
    }, measured


@contextmanager
def _worker(scan: Path, core: int) -> Iterator[tuple[str, psutil.Process]]:
    with patch.dict(os.environ, WORKERS="1"), running(replace(SYSTEMS[0], name="worker"), scan) as (url, process):
        for member in (process, *process.children(recursive=True)):
            member.cpu_affinity([core])
        yield url, process


def _throughput(services: Sequence[tuple[str, psutil.Process]], scan: Path, seconds: float, share: float) -> float:
    over = threading.Event()
    throttles = [
        threading.Thread(target=_throttle, args=(process, share, place / len(services), over))
        for place, (_, process) in enumerate(services)
    ]
    for throttle in throttles if share < 1 else []:
        throttle.start()
    try:
        command = [sys.executable, "-m", "tests.benchmarks.inference_load"]
        loads = [
            subprocess.Popen(
                [*command, f"{url}/v1/predict", str(seconds), str(_CONNECTIONS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for url, _ in services
        ]
        results = [json.loads(load.communicate(str(scan))[0]) for load in loads]
    finally:
        over.set()
        for throttle in throttles if share < 1 else []:
            throttle.join()
    return sum(len(result["seconds"].get("200", [])) / result["duration"] for result in results)


def _throttle(process: psutil.Process, share: float, phase: float, over: threading.Event) -> None:
    """Let a process run for a share of each period, beginning at a phase of it."""
    over.wait(phase * _PERIOD_S)
    while not over.is_set():
        process.resume()
        over.wait(share * _PERIOD_S)
        process.suspend()
        over.wait((1 - share) * _PERIOD_S)
    process.resume()
