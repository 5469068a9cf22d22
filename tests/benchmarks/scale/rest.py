"""The inference service through its knee and beyond: requests at constant rates, whatever comes back."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.inference import SYSTEMS, generate, processor_seconds, running
from tests.benchmarks.scale.bucket_load import jpegs
from tests.benchmarks.scale.law import knee

_CONNECTIONS = 16
_SHARES = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0)
"""Of what a closed loop gets through, offered one after the other."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a rate of requests came to."""

    offered: float
    served: float
    """Answers with status 200 per second."""
    refused: float
    """Answers with 429 or 503 per second."""
    p50_ms: float
    """From when a request was due until its answer is here."""
    p95_ms: float
    p99_ms: float
    processors: float
    """That the service keeps busy."""


def measure(seconds: float, data: Path | None) -> tuple[dict[str, float], list[Level]]:
    """Return figures and a level for each rate."""
    with tempfile.TemporaryDirectory() as folder:
        scans = _files(jpegs(data), Path(folder))
        with running(SYSTEMS[0], scans[0]) as (url, process):
            address = f"{url}/v1/predict"
            closed = generate(address, scans, seconds, _CONNECTIONS)
            most = len(closed["seconds"]["200"]) / closed["duration"]
            levels = []
            for share in _SHARES:
                before = processor_seconds(process)
                result = generate(address, scans, seconds, _CONNECTIONS, share * most)
                levels.append(_level(share * most, result, processor_seconds(process) - before))
                print(f"  {levels[-1].offered:.0f} offered, {levels[-1].served:.0f} served", flush=True)
    highest = knee({level.offered: level.served for level in levels})
    at_knee = next((level for level in levels if level.offered == highest), levels[0])
    return {
        "knee_rps": highest,
        "knee_p99_ms": at_knee.p99_ms,
        "closed_loop_rps": most,
        "beyond_knee_rps": levels[-1].served,
        "beyond_knee_p99_ms": levels[-1].p99_ms,
    }, levels


def _files(images: Sequence[bytes], folder: Path) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image)
    return paths


def _level(offered: float, result: dict, processor_s: float) -> Level:
    answered = np.array(result["seconds"].get("200", [float("nan")])) * 1000
    refused = sum(len(result["seconds"].get(status, [])) for status in ("429", "503"))
    p50, p95, p99 = (float(np.percentile(answered, percentile)) for percentile in (50, 95, 99))
    duration = result["duration"]
    served = len(result["seconds"].get("200", [])) / duration
    return Level(offered, served, refused / duration, p50, p95, p99, processor_s / duration)
