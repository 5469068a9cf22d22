"""A burst: thousands of files at once, how long they take to drain, and an exact account of every one."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from local.stack.system import BUCKETS, running
from shared.gcp import bigquery, storage
from tests.benchmarks.scale.pipeline import Figures
from tests.chaos.accounting import File, account
from tests.chaos.drill import drawn_files

_THREADS = 8
_QUIET_S = 120
"""Without another row: what has not ended by then is lost."""
_ROWS = """
SELECT (SELECT COUNT(DISTINCT scan_id) FROM {dataset}.features_raw)
  + (SELECT COUNT(DISTINCT file_id) FROM {dataset}.rejections_raw)
  + (SELECT COUNT(DISTINCT scan_id) FROM {dataset}.scans_raw) AS n
"""
"""A copy, or an event that came twice, has another row and is nothing more to wait for."""
_LAST = """
SELECT MAX(at) AS at FROM (SELECT MAX(recorded_at) AS at FROM {dataset}.features_raw
UNION ALL SELECT MAX(recorded_at) FROM {dataset}.rejections_raw
UNION ALL SELECT MAX(recorded_at) FROM {dataset}.scans_raw)
"""


def measure(scans: int) -> Figures:
    """Return what became of a burst of files of every kind, truncated ones and copies among them."""
    files = drawn_files(Random(17), scans)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)):
        began = time.time()
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_upload, files))
        uploaded = time.time()
        await_quiet(expected_rows(files))
        last = bigquery.query(_LAST)[0]["at"].timestamp()
        found = account(files)
    return {
        "burst_scans": scans,
        "burst_upload_s": uploaded - began,
        "burst_drain_s": last - uploaded,
        "burst_scans_per_second": scans / (last - began),
        "burst_lost": len(found.missing),
        "burst_doubled": len(found.doubled),
        "burst_contradicted": len(found.contradicted),
        "burst_altered": len(found.altered),
    }


def expected_rows(files: list[File]) -> int:
    """Return how many rows of scans, features and rejections there are at least when all files have ended."""
    distinct = {file.id: file for file in files}.values()
    return sum(2 * file.pages or 1 for file in distinct)


def await_quiet(expected: int) -> None:
    """Wait until so many rows are there, or no more come."""
    most, moved = -1, time.monotonic()
    while (rows := bigquery.query(_ROWS)[0]["n"]) < expected and time.monotonic() - moved < _QUIET_S:
        if rows > most:
            most, moved = rows, time.monotonic()
        time.sleep(2)


def _upload(file: File) -> None:
    storage.create(BUCKETS["uploads"], file.object_name, file.content, "application/octet-stream")
