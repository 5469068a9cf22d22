"""How the account of ingestion and the worklist's query grow: 100,000 and 1,000,000 uploads.

The rows lie in the BigQuery stand-in, and are queried as in the cloud. The bucket's listing is generated: the storage
stand-in would take hours to hold a million objects.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud.bigquery import LoadJobConfig

from dashboard.queries import scans
from local.stack.system import running
from shared import config
from shared.gcp import accounting, bigquery, recent
from shared.intake.reconciliation import Entry, sorted_stream, upload_key, upload_states
from tests.benchmarks.inference import processor_seconds
from tests.benchmarks.pipeline import peak_mb

Figures = dict[str, float]
SIZES = (100_000, 1_000_000)
LOST = 1000
"""One upload in so many has no row, and has to be found."""
_RUNS = 3
_LABELS = ("Cancer", "Non-Cancer", "Unlabelled")


def measure(sizes: Sequence[int] = SIZES) -> Figures:
    """Return seconds, processor time and memory of the account and of the worklist, for each number of uploads."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        stand_in = stack.supervisor.processes()["bigquery"]
        stored = 0
        for size in sizes:
            fill(stored, size)
            stored = size
            measured = _in_a_process_of_its_own(size)
            before = processor_seconds(stand_in)
            measured["worklist_s"] = statistics.median(worklist_s() for _ in range(_RUNS))
            measured["worklist_processor_s"] = (processor_seconds(stand_in) - before) / _RUNS
            figures |= {f"accounts_{size}_{name}": value for name, value in measured.items()}
            print(f"  {size:,} uploads: {measured}", flush=True)
    return figures


def _in_a_process_of_its_own(size: int) -> Figures:
    command = [sys.executable, "-m", "tests.benchmarks.scale.accounts", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def account(size: int) -> Figures:
    """Join a listing of so many uploads with the rows; raises AssertionError if it does not find just what is lost."""
    before = datetime.now(UTC)
    started, processor = time.perf_counter(), time.process_time()
    records = sorted_stream(accounting._records(before), Entry._make)
    states = Counter(
        state for _, state in upload_states(sorted_stream(listing(size), Entry._make), records, before.isoformat())
    )
    assert states == {"accepted": size - size // LOST, "lost": size // LOST}, states
    return {
        "account_s": time.perf_counter() - started,
        "account_processor_s": time.process_time() - processor,
        "account_rss_mb": peak_mb(os.getpid()),
    }


def listing(size: int) -> Iterator[Entry]:
    """Yield uploads in the order of their names, which is that of neither time nor generation."""
    for number in np.random.default_rng(1).permutation(size).tolist():
        label = _LABELS[number % 3]
        key = upload_key(1_700_000_000_000_000 + number, label)
        yield Entry(key, f"{number:022d}==", label, "2026-01-31T08:00:00+00:00", f"{label}/{number:064x}")


def fill(first: int, end: int) -> None:
    """Load the rows of uploads with these numbers, but for those that are lost."""
    numbers = np.array([number for number in range(first, end) if number % LOST])
    ids = [f"{number:064x}" for number in numbers]
    now = datetime.now(UTC)
    spread = [now - timedelta(seconds=72_000 * place / len(ids)) for place in range(len(ids))]
    times = pa.array(spread, pa.timestamp("us", "UTC"))
    labels = [_LABELS[number % 3] for number in numbers]
    named = {"scan_id": ids, "label": labels, "source": ["ward-3"] * len(ids), "object_name": ids}
    content = {"content_sha256": ids, "format": ["JPEG"] * len(ids)}
    content["content_md5"] = [f"{number:022d}==" for number in numbers]
    numeric = dict.fromkeys(("page", "pages"), np.ones(len(ids), int))
    numeric |= dict.fromkeys(("width", "height", "size"), np.full(len(ids), 224))
    at = {"uploaded_at": times, "recorded_at": times}
    _load(
        "scans", named | content | numeric | at | {"accepted_at": times, "generation": 1_700_000_000_000_000 + numbers}
    )
    probability = np.random.default_rng(0).beta(0.4, 0.4, len(ids))
    answers = {"prediction": np.where(probability >= 0.5, "Cancer", "Non-Cancer"), "probability": probability}
    model = {"scan_id": ids, "model_version": ["1"] * len(ids), "threshold": np.full(len(ids), 0.5)}
    _load("predictions", model | answers | at | {"predicted_at": times})


def _load(name: str, columns: dict[str, object]) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    content.seek(0)
    table_id = f"{config.project()}.{config.dataset()}.{name}_raw"
    options = LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    bigquery.client().load_table_from_file(content, table_id, job_config=options).result()


def worklist_s() -> float:
    """Return seconds of the query for the worklist's first page of the last day."""
    window = timedelta(days=1)
    sql = scans.worklist_sql(next(iter(scans.SORTS)), None, {}, 1)
    started = time.perf_counter()
    assert list(bigquery.stream(recent.expanded(sql), since=recent.back(window)))  # without a reader's patience
    return time.perf_counter() - started


def main() -> None:
    """Account for uploads whose rows are in the tables, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale.accounts", description=__doc__)
    parser.add_argument("size", type=int)
    print(json.dumps(account(parser.parse_args().size)))


if __name__ == "__main__":
    main()
