"""How fast scans travel from the uploads bucket to their prediction's row, on this machine and its stand-ins.

Each run starts the system anew, uploads all scans at once for throughput, and then single ones for latency. The
alternative is what a script would do: one process that uploads, decodes, predicts and inserts a row, scan by scan.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from local.stack.provision import RELEASE
from local.stack.signals import stop_on_signals
from local.stack.system import BUCKETS, PROJECT, Stack, running
from shared import scan
from shared.clock import now
from shared.gcp import bigquery, storage
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model, read_release
from tests.benchmarks.inference import processor_seconds

ROOT = Path(__file__).parents[2]
RESULT = ROOT / ".local" / "bench" / "corridor.json"
SCANS, SINGLES, LOOP, RUNS = 500, 30, 100, 3
DEADLINE_S = 180


def main() -> int:
    """Measure, print a table and write JSON."""
    stop_on_signals()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real scans")
    data = parser.parse_args().data
    files = images(data) if data.is_dir() else []
    if len(files) < SCANS + SINGLES + LOOP:
        print(f"{data} holds {len(files)} scans, too few to measure; name a folder with DATA=")
        return 2
    runs = [measure(files) for _ in range(RUNS)]
    result = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    result["runs"] = RUNS
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(shown(result))
    return 0


def images(data: Path) -> list[Path]:
    """Labelled JPEG and PNG scans, spread evenly over the folder."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    step = max(1, len(files) // (SCANS + SINGLES + LOOP))
    return files[::step]


def measure(files: Sequence[Path]) -> dict[str, float]:
    """One run over a system of its own."""
    contents = list(dict.fromkeys(path.read_bytes() for path in files))  # each a scan of its own
    batch, singles = contents[:SCANS], contents[SCANS : SCANS + SINGLES]
    loop = contents[SCANS + SINGLES : SCANS + SINGLES + LOOP]
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        latency(singles.pop())  # the first scan pays for every lazy client
        before = processor_times(stack)
        together = throughput(batch)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in processor_times(stack).items()}
        one_by_one = sorted(latency(content) for content in singles)
        figures = {
            "scans_per_second": together,
            "latency_p50_s": statistics.median(one_by_one),
            "latency_p95_s": one_by_one[round(0.95 * (len(one_by_one) - 1))],
            "loop_scans_per_second": script(loop, read_release(RELEASE)),
        }
        return figures | cpu_per_scan(spent, len(batch)) | peaks(stack)


def throughput(contents: Sequence[bytes]) -> float:
    """Scans a second from the first upload until the last prediction can be queried."""
    goal = predictions() + len(contents)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, contents))
    await_predictions(goal, least_s=0.2)
    return len(contents) / (time.monotonic() - started)


def latency(content: bytes) -> float:
    """Seconds from the start of one upload until its prediction can be queried."""
    goal = predictions() + 1
    started = time.monotonic()
    upload(content)
    await_predictions(goal, least_s=0.02)
    return time.monotonic() - started


def upload(content: bytes) -> None:
    """Put a scan where an imaging system would."""
    storage.create(BUCKETS["uploads"], f"Unlabelled/{scan.file_id(content)}", content, "image/jpeg")


def predictions() -> int:
    """Scans with a prediction so far."""
    return bigquery.query("SELECT COUNT(DISTINCT scan_id) AS n FROM {dataset}.predictions_raw")[0]["n"]


def await_predictions(goal: int, least_s: float) -> None:
    """Wait for so many predictions, asking again after half of what seems left: a question costs like two scans."""
    first, started = predictions(), time.monotonic()
    while (done := predictions()) < goal:
        elapsed = time.monotonic() - started
        if elapsed > DEADLINE_S:
            raise TimeoutError("not every scan had come through in time; see the logs")
        time.sleep(min(max(least_s, elapsed * (goal - done) / max(done - first, 1) / 2), 2.0))


def script(contents: Sequence[bytes], model: Model) -> float:
    """The alternative: scans a second of one process that does one scan after the other."""
    started = time.monotonic()
    for number, content in enumerate(contents):
        file_id = scan.file_id(content)
        storage.create(BUCKETS["scans"], f"loop/{file_id}", content, "image/jpeg")
        stored = storage.read(BUCKETS["scans"], f"loop/{file_id}")
        prediction = model.predict(prepare(next(iter(decode(stored).pages))))
        row = {
            "scan_id": file_id,
            "model_version": "loop",
            "prediction": model.predicted_class(prediction),
            "probability": prediction.probability,
            "threshold": model.card.threshold,
            "uploaded_at": now(),
            "predicted_at": now(),
            "recorded_at": now(),
        }
        table = f"{PROJECT}.scanflow.predictions_raw"
        bigquery.client().insert_rows_json(table, [row], row_ids=[f"loop-{number}"])
    return len(contents) / (time.monotonic() - started)


def processor_times(stack: Stack) -> dict[str, float]:
    """Return the processor seconds that each process and its children have taken so far."""
    return {name: processor_seconds(process) for name, process in stack.supervisor.processes().items()}


def cpu_per_scan(spent: Mapping[str, float], scans: int) -> dict[str, float]:
    """Milliseconds of processor time a scan, of all processes together and of each that took some."""
    each = {f"{name}_cpu_ms": 1000 * seconds / scans for name, seconds in spent.items()}
    return {"cpu_ms_per_scan": sum(each.values())} | each


def peaks(stack: Stack) -> dict[str, float]:
    """Memory of all processes now, and the highest resident memory of each so far with their sum, in MB."""
    each = {f"{name}_peak_rss_mb": peak_mb(process.pid) for name, process in stack.supervisor.processes().items()}
    whole = sum(_shared_once_mb(process) for process in stack.supervisor.processes().values())
    return {"memory_mb": whole, "peak_rss_mb": sum(each.values())} | each


def _shared_once_mb(process: psutil.Process) -> float:
    """Of a process and its children; a page that several share, as a server and its worker do, counts once in all."""
    family = [process, *process.children(recursive=True)]
    return sum(one.memory_full_info().pss for one in family) / 2**20


def peak_mb(pid: int) -> float:
    """Return the highest resident memory of a process and its children, in MB, as the kernel kept it.

    The process's own figure (`ru_maxrss`) begins with what the one that started it had.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024 + sum(peak_mb(int(child)) for child in children)


def shown(result: dict[str, float]) -> Table:
    """The figures, one a line."""
    table = Table("figure", "median", title=f"Pipeline, {SCANS} scans, {RUNS} runs")
    for name, value in result.items():
        table.add_row(name, f"{value:,.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
