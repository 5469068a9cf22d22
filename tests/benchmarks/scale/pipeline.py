"""The pipeline through its knee and beyond: constant rates of uploads, queues and processor time of every step."""

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from local.stack.system import Stack, running
from shared.gcp import bigquery
from tests.benchmarks.pipeline import processor_times
from tests.benchmarks.scale.bucket_load import jpegs, numbered, offer, upload
from tests.benchmarks.scale.law import knee
from tests.benchmarks.scale.simulation import SERVICES

Figures = dict[str, float | str]
_PATIENCE_S = 300
_STAND_INS = ("storage", "pubsub", "bigquery")
_ROWS = """
SELECT scan_id, scans.uploaded_at, scans.accepted_at, scans.recorded_at, featured.recorded_at AS featured_at
FROM {dataset}.scans AS scans LEFT JOIN {dataset}.features AS featured USING (scan_id)
WHERE scans.uploaded_at >= @since
"""
_QUEUES = {
    "validate_scan": ("uploaded_at", "accepted_at"),
    "record_scan": ("accepted_at", "recorded_at"),
    "score_scan": ("accepted_at", "scored_at"),
    "write_features": ("scored_at", "featured_at"),
}
"""Of each step, from when to when a scan waits for it or is in its hands; `scored_at` is when its row was stored and
the next step called, as score_scan logs it."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a rate of uploads came to."""

    offered: float
    served: float
    """Scans per second whose answer was stored in the second half of the time in which uploads came."""
    p50_s: float
    """From the upload until the answer's row is stored."""
    p95_s: float
    queues: Mapping[str, int]
    """Scans that each step had not done when the last upload came."""
    processor_ms: Mapping[str, float]
    """Of each process, for a scan."""


def measure(rates: Sequence[float], seconds: float, data: Path | None) -> tuple[Figures, list[Level]]:
    """Return figures and a level for each rate, on a system of its own."""
    images = jpegs(data)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        alone_s = alone(stack, images)
        levels = []
        for rate in rates:
            levels.append(level(stack, images, rate, seconds))
            print(f"  {rate:g} offered, {levels[-1].served:.1f} served, {dict(levels[-1].queues)}", flush=True)
    return figures(levels) | alone_s, levels


def figures(levels: Sequence[Level]) -> Figures:
    """Return the knee, the step that saturates beyond it, and what a scan takes of the processors."""
    highest = knee({level.offered: level.served for level in levels})
    beyond = [level for level in levels if level.offered > highest] or [levels[-1]]
    queues, processor_ms = beyond[0].queues, beyond[0].processor_ms
    stand_ins = sum(processor_ms[name] for name in _STAND_INS)
    return {
        "pipeline_knee_scans_per_second": highest,
        "pipeline_most_scans_per_second": max(level.served for level in levels),
        "saturating_step": max(queues, key=lambda name: queues[name]),
        "saturating_step_queue": max(queues.values()),
        "busiest_process": max(processor_ms, key=lambda name: processor_ms[name]),
        "processor_ms_a_scan": sum(processor_ms.values()),
        "processor_ms_stand_ins": stand_ins,
        **{f"processor_ms_{name}": processor_ms[name] for name in SERVICES},
    }


def alone(stack: Stack, images: Sequence[bytes], scans: int = 12) -> Figures:
    """Return median seconds of scans that come one at a time: of each step and of the whole."""
    files = numbered(images)
    upload(next(files))  # pays for every lazy client
    await_features(1)
    began = datetime.now(UTC)
    for number in range(scans):
        upload(next(files))
        await_features(number + 1, since=began)
    times = rows(stack, began)
    hops = {
        f"alone_{step}_s": statistics.median((row[until] - row[start]).total_seconds() for row in times)
        for step, (start, until) in _QUEUES.items()
    }
    whole = statistics.median((row["scored_at"] - row["uploaded_at"]).total_seconds() for row in times)
    return {"alone_s": whole} | hops


def level(stack: Stack, images: Sequence[bytes], rate: float, seconds: float) -> Level:
    """Return what one rate came to, once all of it is done."""
    before = processor_times(stack)
    began = datetime.now(UTC)
    sent = offer(images, rate, seconds)
    ended = datetime.now(UTC)
    await_features(sent, since=began)
    after = processor_times(stack)
    times = rows(stack, began)
    assert len(times) == sent, f"{sent} uploads became {len(times)} scans"
    took = np.array([(row["scored_at"] - row["uploaded_at"]).total_seconds() for row in times])
    middle = began + (ended - began) / 2
    in_time = sum(middle <= row["scored_at"] < ended for row in times)
    return Level(
        offered=rate,
        served=in_time / (ended - middle).total_seconds(),
        p50_s=float(np.median(took)),
        p95_s=float(np.percentile(took, 95)),
        queues={
            step: sum(row[start] <= ended < row[until] for row in times) for step, (start, until) in _QUEUES.items()
        },
        processor_ms={name: (after[name] - before[name]) / sent * 1000 for name in after},
    )


def rows(stack: Stack, since: datetime) -> list[bigquery.Row]:
    """Return the times of every scan uploaded since."""
    scored: dict[str, datetime] = {}
    for line in (stack.supervisor.logs / "score_scan.log").read_text().splitlines():
        if '"scored"' in line:
            entry = json.loads(line)
            scored.setdefault(entry["scan_id"], datetime.fromisoformat(entry["time"]))
    return [row | {"scored_at": scored[row["scan_id"]]} for row in map(dict, bigquery.stream(_ROWS, since=since))]


def await_features(scans: int, since: datetime | None = None) -> None:
    """Wait until so many scans have features: the last thing that becomes of one. Raises TimeoutError."""
    sql = "SELECT COUNT(DISTINCT scan_id) AS n FROM {dataset}.features_raw WHERE recorded_at >= @since"
    deadline = time.monotonic() + _PATIENCE_S
    time.sleep(0.5)
    while (found := bigquery.query(sql, since=since or datetime(2000, 1, 1, tzinfo=UTC))[0]["n"]) < scans:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} of {scans} scans have features; see the logs")
        time.sleep(min(2.0, 0.5 + (scans - found) / 100))  # a question costs the stand-in as much as two scans
