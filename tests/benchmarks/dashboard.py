"""How long a reader waits, measured in a browser over the running local stack with 100,000 scans in its tables.

Beside the worklist stands what is written first: a page that puts the whole view into one table. Every run is a new
browser session with nothing cached by the browser, and with no worklist cached by the dashboard.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from google.cloud.bigquery import LoadJobConfig
from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dashboard.queries import scans
from local.stack.processes import Service, free_port
from local.stack.signals import stop_on_signals
from local.stack.system import Stack, running
from shared import config
from shared.gcp import bigquery
from tests.dashboard.browser import CHROMIUM, chromium, new_page, settled

ROOT = Path(__file__).parents[2]
RESULT = ROOT / ".local" / "bench" / "dashboard.json"
SAMPLE = ROOT / "dashboard" / "samples" / "lesion.png"
ROWS, RUNS, SESSIONS = 100_000, 5, 10

AIMS = {
    "page_ready_s": "at most 1.5",
    "first_answer_s": "at most 1.5",
    "shown_after_answer_s": "at most 0.5",
    "worklist_100k_s": "at most 1",
    "worklist_query_s": "of it, the BigQuery stand-in's",
    "worklist_opened_100k_s": "by its address instead of a click",
    "naive_worklist_100k_s": "the same, the whole view in one table",
    "session_rss_mb": "each open session that has read a scan",
    "dashboard_rss_mb": f"the process with {SESSIONS} of them",
}


def main() -> int:
    """Measure, print a table and write JSON."""
    stop_on_signals()
    argparse.ArgumentParser(prog="python -m tests.benchmarks.dashboard", description=__doc__).parse_args()
    if not CHROMIUM:
        print("The benchmark needs Chromium: apt-get install chromium")
        return 2
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack, chromium() as browser:
        fill(ROWS)
        result = measure(stack, browser)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(shown(result))
    return 0


def measure(stack: Stack, browser: Browser) -> dict[str, float]:
    """Medians of runs that each begin with a new session."""
    url, naive = stack.url("dashboard"), start_naive(stack)
    session_mb, whole_mb = memory_mb(browser, stack, url)
    api_s = statistics.median(answer_seconds(stack.url("inference")) for _ in range(RUNS))
    answers = [first_answer(browser, url) for _ in track(range(RUNS), "first answer")]
    ready, answered, shown_after = (statistics.median(column) for column in zip(*answers, strict=True))
    result = {
        "page_ready_s": ready,
        "first_answer_s": answered,
        "shown_after_answer_s": shown_after - api_s,
        "worklist_100k_s": statistics.median(worklist(browser, url) for _ in track(range(RUNS), "worklist")),
        "worklist_query_s": statistics.median(worklist_query() for _ in range(RUNS)),
        "worklist_opened_100k_s": statistics.median(opened(browser, url) for _ in track(range(RUNS), "opened")),
        "session_rss_mb": session_mb,
        "dashboard_rss_mb": whole_mb,
        "naive_worklist_100k_s": statistics.median(table(browser, naive) for _ in track(range(3), "naive worklist")),
    }
    return {name: round(value, 3) for name, value in result.items()} | {"rows": ROWS, "runs": RUNS}


def answer_seconds(url: str) -> float:
    """Seconds in which the API answers the same file with its heat map."""
    start = time.perf_counter()
    requests.post(f"{url}/v1/predict?explain=true", files={"file": SAMPLE.read_bytes()}, timeout=60).raise_for_status()
    return time.perf_counter() - start


def first_answer(browser: Browser, url: str) -> tuple[float, float, float]:
    """Seconds from a click on the page's link until it takes a file, and from a file until its overlay is seen.

    And, of these, from when the file had arrived at the dashboard, which then asks the API.
    """
    page = new_page(browser)
    page.goto(f"{url}/model")
    settled(page)
    start = time.perf_counter()
    page.get_by_role("link", name="Read a scan").click()
    page.get_by_text("Or try a sample").wait_for()
    ready = time.perf_counter() - start
    settled(page)
    start = time.perf_counter()
    arrived = read_sample(page)
    seen = time.perf_counter()
    page.close()
    return ready, seen - start, seen - arrived


def read_sample(page: Page) -> float:
    """Hand over a scan, and wait until its overlay is painted; answers when the file had arrived at the dashboard."""
    with page.expect_request_finished(lambda request: "/upload_file/" in request.url):
        page.locator("input[type=file]").set_input_files(
            {"name": "scan", "mimeType": "image/png", "buffer": SAMPLE.read_bytes()}
        )
    arrived = time.perf_counter()
    page.locator(".viewer[data-painted]").wait_for()
    return arrived


def worklist(browser: Browser, url: str) -> float:
    """Seconds from a click on the worklist's link until its table and the number of files are seen."""
    forget()
    page = new_page(browser)
    page.goto(url)
    settled(page)
    start = time.perf_counter()
    page.get_by_role("link", name="Worklist").click()
    page.get_by_text(f"{ROWS:,} files").wait_for()
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def opened(browser: Browser, url: str) -> float:
    """Seconds from opening the worklist's address until its table is seen."""
    forget()
    return table(browser, f"{url}/worklist")


def worklist_query() -> float:
    """Seconds of the query for the worklist's first page."""
    scans.worklist.clear()
    start = time.perf_counter()
    scans.worklist(next(iter(scans.WINDOWS)), next(iter(scans.SORTS)), None, {}, 1)
    return time.perf_counter() - start


def forget() -> None:
    """Wait until the dashboard has forgotten the worklist that it last read."""
    time.sleep(scans.REFRESH_S)


def start_naive(stack: Stack) -> str:
    """Run the naive page beside the stack; its address comes back."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "tests/benchmarks/dashboard_naive.py"]
    command += [
        "--server.port",
        str(port),
        "--server.address",
        "127.0.0.1",
        "--server.headless",
        "true",
        "--browser.gatherUsageStats",
        "false",
    ]
    environment = stack.services["dashboard"].environment
    service = Service(name="naive", port=port, command=command, health="/_stcore/health", environment=environment)
    stack.supervisor.start([service])
    return service.url


def table(browser: Browser, url: str) -> float:
    """Seconds from opening a page until its table is seen."""
    page = new_page(browser)
    start = time.perf_counter()
    page.goto(url)
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=300_000)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def memory_mb(browser: Browser, stack: Stack, url: str) -> tuple[float, float]:
    """Megabytes that the dashboard grows by with each open session that has read a scan, and its whole size then."""
    process: psutil.Process = stack.supervisor.processes()["dashboard"]
    pages = [reading(browser, url)]  # the first one loads the libraries
    before = process.memory_info().rss
    pages += [reading(browser, url) for _ in track(range(SESSIONS), "sessions")]
    after = process.memory_info().rss
    for page in pages:
        page.close()
    return (after - before) / SESSIONS / 1e6, after / 1e6


def reading(browser: Browser, url: str) -> Page:
    """An open session that has read a scan."""
    page = new_page(browser)
    page.goto(url)
    settled(page)
    read_sample(page)
    return page


def fill(rows: int) -> None:
    """Scans, predictions and features as the corridor writes them, spread over most of a day, by load jobs."""
    rng, now = np.random.default_rng(0), datetime.now(UTC)
    ids = [f"{place:064x}" for place in rng.permutation(rows)]
    times = pa.array([now - timedelta(hours=20 * place / rows) for place in range(rows)], pa.timestamp("us", "UTC"))
    probability = rng.beta(0.4, 0.4, rows)
    labels, sources = rng.choice(["Cancer", "Non-Cancer", "Unlabelled"], rows), rng.choice(["ward-3", "ward-7"], rows)
    common = {"scan_id": ids, "label": labels, "source": sources, "recorded_at": times}
    numbers = dict.fromkeys(("page", "pages", "width", "height", "size"), np.full(rows, 224))
    named = {"object_name": ids, "content_sha256": ids, "format": ["JPEG"] * rows}
    _load("scans", common | named | numbers | {"uploaded_at": times, "accepted_at": times})
    answers = {"prediction": np.where(probability >= 0.5, "Cancer", "Non-Cancer"), "probability": probability}
    model = {"scan_id": ids, "model_version": ["1"] * rows, "threshold": np.full(rows, 0.5)}
    _load("predictions", model | answers | dict.fromkeys(("uploaded_at", "predicted_at", "recorded_at"), times))
    statistics_ = dict.fromkeys(("mean", "std", "skewness", "kurtosis"), probability)
    vectors = {"standardised_quantiles": [[0.0] * 5] * rows, "embedding": [[0.0] * 16] * rows}
    _load("features", common | {"feature_version": ["1"] * rows} | statistics_ | vectors)


def _load(name: str, columns: dict[str, object]) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    content.seek(0)
    table_id = f"{config.project()}.{config.dataset()}.{name}_raw"
    job = LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    bigquery.client().load_table_from_file(content, table_id, job_config=job).result()


def shown(result: dict[str, float]) -> Table:
    """The result for people."""
    table = Table("figure", "measured", "aim", title=f"The dashboard with {ROWS:,} scans, medians of {RUNS}")
    for name, aim in AIMS.items():
        table.add_row(name, f"{result[name]:g}", aim)
    return table


if __name__ == "__main__":
    sys.exit(main())
