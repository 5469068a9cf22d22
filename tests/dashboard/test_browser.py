"""The main path in a real browser: read a scan, disagree, and find what the bucket brings without reloading."""

import io
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from local import samples
from local.stack.system import BUCKETS, Stack
from shared.gcp import bigquery, storage
from shared.scan import file_id
from tests.dashboard.browser import CHROMIUM, choose_first_row, chromium, new_page, settled
from tests.dashboard.conftest import ROOT

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
SAMPLE = ROOT / "dashboard" / "samples" / "lesion.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    page = new_page(browser)
    page.goto(stack.url("dashboard"))
    yield page
    page.close()


def picture(page: Page, alt: re.Pattern[str]) -> str:
    """Address of a picture, which names its content."""
    settled(page)
    return page.get_by_alt_text(alt).last.get_attribute("src")


def test_a_dropped_scan_is_read_and_disagreed_with(page: Page) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": "Jane Doe.png", "mimeType": "image/png", "buffer": SAMPLE.read_bytes()}
    )
    expect(page.get_by_text("Calibrated probability of cancer:")).to_be_visible()
    overlay = re.compile("^The scan with the evidence")
    before = picture(page, overlay)
    slider = page.get_by_role("slider", name="Opacity of the heat map")
    slider.focus()
    slider.press("ArrowLeft")
    expect(page.get_by_alt_text(overlay).last).not_to_have_attribute("src", before)

    page.get_by_text("Disagree", exact=True).click()
    reason = f"seen in a browser {uuid.uuid4().hex}"
    page.get_by_label("Why? Name no patient.").fill(reason)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Stored. Sending again replaces it.")).to_be_visible()
    rows = bigquery.query("SELECT scan_id, agrees FROM `{dataset}.feedback` WHERE reason = @reason", reason=reason)
    assert [(row["scan_id"], row["agrees"]) for row in rows] == [(file_id(SAMPLE.read_bytes()), False)]


def test_a_reading_can_be_taken_along_in_every_form(page: Page) -> None:
    page.get_by_role("button", name="Drawn lesion", exact=True).click()
    begins = {"PDF, one page": b"%PDF", "PNG with heat map": b"\x89PNG", "JSON": b"[", "CSV": b"scan_id,prediction"}
    for label, beginning in begins.items():
        button = page.get_by_role("button", name=label, exact=True)
        button.wait_for()
        settled(page)
        with page.expect_download() as download:
            button.click()
        assert Path(download.value.path()).read_bytes().startswith(beginning)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_and_part_opens_by_its_address(browser: Browser, stack: Stack, theme: str) -> None:
    page = new_page(browser, theme)
    for address, seen in (
        ("worklist?sort=Oldest+first", "Live"),
        ("model?part=Threshold", "Prevalence in %"),
        ("model?part=Heat+maps", "Failures"),
        ("model?part=Versions", "Release decisions"),
        ("data?part=Ingestion+checks", "ngestion check"),
        ("operations?window=Last+week", "Waiting and given up"),
    ):
        page.goto(f"{stack.url('dashboard')}/{address}")
        expect(page.get_by_text(seen).first).to_be_visible()
    page.close()


def test_a_scan_dropped_into_the_bucket_appears_without_reload_and_is_read(page: Page) -> None:
    content = io.BytesIO()
    head = np.array(Image.open(SAMPLE))
    head[:4, :4] = np.frombuffer(uuid.uuid4().bytes, np.uint8).reshape(4, 4)
    Image.fromarray(head).save(content, "PNG")
    scan_id = file_id(content.getvalue())

    page.get_by_role("link", name="Worklist").click()
    search = page.get_by_label("Scan id begins with")
    search.fill(scan_id)
    search.press("Enter")
    expect(page.get_by_text("No scan matches.")).to_be_visible()
    page.evaluate("window.loadedOnce = true")

    storage.create(BUCKETS["uploads"], f"Unlabelled/{uuid.uuid4()}", content.getvalue(), "image/png")
    expect(page.get_by_text("1 file", exact=True)).to_be_visible()
    choose_first_row(page)
    expect(page.get_by_text(f"Scan {scan_id}")).to_be_visible()
    assert page.evaluate("window.loadedOnce")

    page.get_by_role("button", name="Read this scan").click()
    expect(page.get_by_text("Calibrated probability of cancer:")).to_be_visible()
    assert f"scan={scan_id}" in page.url


def test_several_slices_are_stepped_through_by_keyboard(page: Page) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": "a", "mimeType": "image/tiff", "buffer": (ROOT / "dashboard" / "samples" / "slices.tif").read_bytes()}
    )
    slider = page.get_by_role("slider", name="Slice")
    expect(slider).to_be_visible()
    settled(page)
    plain = re.compile("^The scan as it was sent")
    before = picture(page, plain)
    slider.focus()
    slider.press("ArrowLeft")  # the most urgent slice is shown first, and the sample's first one is healthy
    expect(page.get_by_alt_text(plain).last).not_to_have_attribute("src", before)


def test_what_a_file_says_is_never_run(page: Page) -> None:
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    hostile = samples.dicom(np.array(Image.open(SAMPLE)), patient="<img src=x onerror=alert(1)>")
    page.locator("input[type=file]").set_input_files(
        {"name": "<img src=x onerror=alert(2)>.dcm", "mimeType": "application/dicom", "buffer": hostile}
    )
    expect(page.get_by_text("Calibrated probability of cancer:")).to_be_visible()
    settled(page)
    assert page.locator("img[src=x]").count() == 0
    assert dialogs == []


def test_a_deep_address_is_the_first_of_a_fresh_process(browser: Browser, stack: Stack) -> None:
    """Streamlit would run the page's file alone if the folder were named pages/: without the notice."""
    page = new_page(browser)
    with fresh_dashboard(stack) as url:
        page.goto(f"{url}/operations")
        expect(page.get_by_text("Not a medical device")).to_be_visible()
        expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    page.close()


@contextmanager
def fresh_dashboard(stack: Stack) -> Iterator[str]:
    """A dashboard that nobody has opened yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = stack.services["dashboard"]
    command = [port if part == str(running.port) else part for part in running.command]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(running.environment))
    try:
        wait_until(lambda: is_healthy(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def is_healthy(port: str) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).ok
    except requests.RequestException:
        return False


def wait_until(done: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)
