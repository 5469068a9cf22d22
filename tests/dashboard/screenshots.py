"""`make screenshots`: every page in both themes over the running local stack, into docs/screenshots."""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from local import samples
from local.stack.signals import stop_on_signals
from local.stack.system import BUCKETS, Options, Stack, running
from shared.gcp import bigquery, storage
from tests.dashboard.browser import CHROMIUM, choose_first_row, chromium, new_page, settled

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "screenshots"
PAGES = {
    "read": "?sample=Drawn+lesion",
    "worklist": "worklist",
    "review": "review",
    "studies": "studies",
    "model": "model",
    "data": "data",
    "drift": "drift",
    "operations": "operations?window=Last+hour",
}
"""Address of each."""
_HEAD = ROOT / "dashboard" / "samples" / "head.jpg"
_DEADLINE_S = 300
_TALLEST = 2200
_SCHEDULE_SPEED = 60
"""Times the clock: what is scheduled every hour, as the look for drift is, happens every minute."""
_DONE = """
(SELECT COUNT(*) FROM (SELECT DISTINCT scan_id FROM `{dataset}.predictions`)
JOIN (SELECT DISTINCT scan_id FROM `{dataset}.features`) USING (scan_id))
"""
_SUMMARISED = "(SELECT COUNT(*) FROM `{dataset}.series`) > 0 AND (SELECT COUNT(*) FROM `{dataset}.drift_checks`) > 0"


def main() -> None:
    """Start the system, let scans flow, and take the pictures."""
    stop_on_signals()
    parser = argparse.ArgumentParser(prog="python -m tests.dashboard.screenshots", description=__doc__)
    parser.add_argument("pages", nargs="*", choices=[*PAGES, []], help="all, if none is named")
    pages = parser.parse_args().pages or PAGES
    if not CHROMIUM:
        raise SystemExit("Screenshots need Chromium: apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["SERIES_QUIET_SECONDS"] = "5"
    options = Options(schedule_speed=_SCHEDULE_SPEED)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), options) as stack, chromium() as browser:
        drop_scans()
        _wait_for("a series has an answer and drift was looked for", _SUMMARISED)
        for theme in ("light", "dark"):
            for name in pages:
                _take(browser, stack, name, theme)


def drop_scans(copies: int = 24) -> int:
    """Put the samples and many heads with drawn lesions into the uploads bucket, and wait until they are scored."""
    head, rng = np.array(Image.open(_HEAD)), np.random.default_rng(3)
    contents = [(sample.object_name, sample.content) for sample in samples.samples()]
    for place in range(copies):
        drawn = samples.draw_lesion(head, rng) if place % 3 else np.roll(head, place, axis=1)
        label = "Cancer" if place % 3 else "Non-Cancer"
        contents.append((f"{label}/head-{place}", samples.encode(drawn, "PNG" if place % 2 else "JPEG")))
    for place, (name, content) in enumerate(contents):
        metadata = {"source": ("samples", "ward-3", "ward-7")[place % 3]}
        storage.create(BUCKETS["uploads"], name, content, "application/octet-stream", metadata)
    _wait_for("all scans are scored", f"{_DONE} >= {copies + 10}")
    return len(contents)


def _wait_for(what: str, condition: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not _is_so(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"After {_DEADLINE_S} s it is still not so that {what}.")
        time.sleep(0.5)


def _is_so(condition: str) -> bool:
    try:
        return bool(bigquery.query(f"SELECT {condition} AS is_so")[0]["is_so"])
    except bigquery.BigQueryError:
        return False  # busy with what is scheduled sixty times as often as it should be


def _take(browser: Browser, stack: Stack, name: str, theme: str) -> None:
    page = new_page(browser, theme)
    page.goto(f"{stack.url('dashboard')}/{PAGES[name]}")
    page.wait_for_selector("h1")
    _prepare(page, name)
    _save(page, FOLDER / f"{name}-{theme}.webp")
    page.close()


def _prepare(page: Page, name: str) -> None:
    """What a reader would have done before the picture."""
    settled(page)
    if name == "read":
        page.locator(".viewer[data-painted]").wait_for()
    if name == "worklist":
        choose_first_row(page)
        page.get_by_role("button", name="Read this scan").wait_for()
    settled(page)


def _save(page: Page, file: Path) -> None:
    """The whole page, small enough for a repository."""
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": 1360, "height": min(max(height, 860), _TALLEST)})
    page.wait_for_timeout(1500)  # charts grow into their new size without telling
    settled(page)  # a live page fades while it asks again
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(file, quality=70, method=6)


if __name__ == "__main__":
    main()
