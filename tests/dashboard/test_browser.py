"""The main path in a real browser: read a scan, disagree, and find what the bucket brings without reloading."""

import io
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from local import samples
from local.stack.system import BUCKETS, Stack
from shared.gcp import bigquery, storage
from shared.scan import file_id
from tests.dashboard.browser import CHROMIUM, choose_first_row, chromium, new_page, settled
from tests.dashboard.conftest import ROOT
from tests.dashboard.test_uploads import instance
from tests.support.servers import running

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
SAMPLE = ROOT / "dashboard" / "samples" / "lesion.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def fresh(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a dashboard that nobody has opened yet, whose live pages look for new scans every three seconds."""
    dashboard = stack.services["dashboard"]
    command = ["PORT" if part == str(dashboard.port) else part for part in dashboard.command]
    environment = {**dashboard.environment, "LIVE_REFRESH_SECONDS": "3"}
    log = tmp_path_factory.mktemp("dashboard") / "log"
    with running(command, log, "/_stcore/health", environment=environment) as server:
        yield server.url


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    page = new_page(browser)
    page.goto(stack.url("dashboard"))
    yield page
    page.close()


def drop(page: Page, name: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def painted(page: Page) -> str:
    """What the viewer shows now: upload, slice and look."""
    viewer = page.locator(".viewer[data-painted]")
    viewer.wait_for()
    settled(page)
    return viewer.get_attribute("data-painted")


def wait_for_another(page: Page, before: str) -> None:
    expect(page.locator(".viewer")).not_to_have_attribute("data-painted", before)


def test_a_deep_address_is_the_first_of_a_fresh_process(browser: Browser, fresh: str) -> None:
    """Streamlit would run the page's file alone if the folder were named pages/: without the notice."""
    page = new_page(browser)
    page.goto(f"{fresh}/operations")
    expect(page.get_by_text("Not a medical device")).to_be_visible()
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    page.close()


def test_a_page_turned_to_has_its_code_already(page: Page) -> None:
    """The table is the largest part of all: the browser has fetched it while the first page was looked at."""
    page.wait_for_function(
        "() => performance.getEntriesByType('resource').some(({name}) => name.includes('/DataFrame.'))"
    )
    settled(page)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.get_by_role("link", name="Worklist").click()
    page.get_by_text("last day").first.wait_for()
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    assert not [url for url in fetched if "/js/DataFrame." in url or "/js/arrowFormatUtils." in url]


def test_a_session_begins_before_the_server_has_said_that_it_is_well(browser: Browser, stack: Stack) -> None:
    page = new_page(browser)
    page.route(re.compile("/_stcore/(health|host-config)"), lambda _: None)  # never answered
    page.goto(stack.url("dashboard"))
    expect(page.get_by_text("Or try a sample")).to_be_visible()
    page.close()


def test_a_dropped_scan_is_read_and_disagreed_with(page: Page) -> None:
    drop(page, "Jane Doe.png", SAMPLE.read_bytes())
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()
    before = painted(page)
    slider = page.get_by_role("slider", name="Opacity")
    slider.focus()
    slider.press("ArrowLeft")
    wait_for_another(page, before)

    page.get_by_text("Disagree", exact=True).click()
    reason = f"seen in a browser {uuid.uuid4().hex}"
    page.get_by_label("Why? Name no patient.").fill(reason)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Stored. Sending again replaces it.")).to_be_visible()
    rows = bigquery.query("SELECT scan_id, agrees FROM `{dataset}.feedback` WHERE reason = @reason", reason=reason)
    assert [(row["scan_id"], row["agrees"]) for row in rows] == [(file_id(SAMPLE.read_bytes()), False)]


def test_a_sample_shows_the_sample_even_after_a_drop_and_can_be_taken_along(page: Page) -> None:
    drop(page, "cat.jpg", (SAMPLE.parent / "cat.jpg").read_bytes())
    expect(page.get_by_role("heading", name="Not a brain MRI")).to_be_visible()
    page.get_by_role("button", name="Drawn lesion", exact=True).click()
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()
    begins = {"PDF, one page": b"%PDF", "PNG with heat map": b"\x89PNG", "JSON": b"{", "CSV": b"scan_id,prediction"}
    for label, beginning in begins.items():
        button = page.get_by_role("button", name=label, exact=True)
        button.wait_for()
        settled(page)
        with page.expect_download() as download:
            button.click()
        assert Path(download.value.path()).read_bytes().startswith(beginning)
    page.get_by_role("button", name="Back to your files").click()
    expect(page.get_by_role("heading", name="Not a brain MRI")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_and_part_opens_by_its_address(browser: Browser, stack: Stack, theme: str) -> None:
    page = new_page(browser, theme)
    for address, seen in (
        ("worklist?sort=Oldest+first", "Live"),
        ("model?part=Threshold", "Prevalence in %"),
        ("model?part=Heat+maps", "Failures"),
        ("model?part=Versions", "Release decisions"),
        ("data?part=Ingestion+checks", "ngestion check"),
        ("operations?window=Last+week", "Waiting, and out of retries"),
    ):
        page.goto(f"{stack.url('dashboard')}/{address}")
        expect(page.get_by_text(seen).first).to_be_visible()
    page.close()


def test_a_scan_dropped_into_the_bucket_appears_without_reload_and_is_read(page: Page, fresh: str) -> None:
    content = io.BytesIO()
    head = np.array(Image.open(SAMPLE))
    head[:4, :4] = np.frombuffer(uuid.uuid4().bytes, np.uint8).reshape(4, 4)
    Image.fromarray(head).save(content, "PNG")
    scan_id = file_id(content.getvalue())

    page.goto(f"{fresh}/worklist")
    search = page.get_by_label("Scan id begins with")
    search.fill(scan_id)
    search.press("Enter")
    expect(page.get_by_text("No scan matches.")).to_be_visible()
    page.get_by_text("Live", exact=True).click()
    page.evaluate("window.loadedOnce = true")

    storage.create(BUCKETS["uploads"], f"Unlabelled/{uuid.uuid4()}", content.getvalue(), "image/png")
    expect(page.get_by_text("1 file · last day", exact=True)).to_be_visible()
    choose_first_row(page)
    expect(page.get_by_text("Unlabelled folder")).to_be_visible()
    assert page.evaluate("window.loadedOnce")

    page.get_by_role("button", name="Read this scan").click()
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()
    assert f"scan={scan_id}" in page.url


def test_the_viewer_has_the_habits_of_the_trade(page: Page) -> None:
    page.goto(f"{page.url}?sample=Five+slices")
    suspicious = page.get_by_role("status").filter(has_text=re.compile("Slice [2-5] of 5: Cancer"))
    expect(suspicious).to_have_count(1)  # it comes first; which one it is depends on the release
    scan = page.get_by_role("img", name="The scan as it was sent")
    scan.focus()
    for _ in range(int(suspicious.inner_text().split()[1]), 5):
        scan.press("ArrowDown")
    expect(page.get_by_role("status").filter(has_text="Slice 5 of 5")).to_have_count(1)
    before = painted(page)
    scan.press("ArrowUp")
    expect(page.get_by_role("status").filter(has_text="Slice 4 of 5")).to_have_count(1)
    wait_for_another(page, before)
    scan.hover()
    page.mouse.wheel(0, -100)
    expect(page.get_by_role("status").filter(has_text="Slice 3 of 5")).to_have_count(1)
    scan.press("ArrowUp")
    scan.press("ArrowUp")
    expect(page.get_by_role("status").filter(has_text="Slice 1 of 5")).to_have_count(1)
    expect(page.get_by_role("heading", name="Non-Cancer")).to_be_visible()  # the answer follows the slice

    fitted = look(page)
    drag(page, scan, 60, 30)
    assert look(page)["width"] > fitted["width"]
    assert look(page)["level"] > fitted["level"]
    scan.press("+")
    assert look(page)["zoom"] > 1
    scan.dblclick()
    assert look(page) == fitted


def look(page: Page) -> dict:
    return json.loads(painted(page).partition(" ")[2].partition(" ")[2])


def drag(page: Page, over: Locator, right: int, down: int) -> None:
    box = over.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up()


def test_a_length_is_in_millimetres_where_the_file_says_how_large_a_pixel_is(page: Page) -> None:
    drop(page, "IM0", instance("1.2.3", 0, (0.5, 0.5)))
    painted(page)
    page.get_by_role("button", name="Measure").click()
    scan = page.get_by_role("img", name="The scan as it was sent")
    scan.scroll_into_view_if_needed()
    box = scan.bounding_box()
    drag(page, scan, 100, 0)
    _, columns = samples.healthy_slices()[0].shape
    expected = 100 / box["width"] * columns * 0.5
    length = page.get_by_role("status").filter(has_text="mm").inner_text()
    assert float(length.split()[1]) == pytest.approx(expected, rel=0.03)


def test_an_upload_is_still_there_after_another_page(page: Page) -> None:
    drop(page, "Jane Doe.png", SAMPLE.read_bytes())
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()
    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", name="Data")).to_be_visible()
    page.get_by_role("link", name="Read a scan").click()
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()


def test_what_a_file_says_is_never_run(page: Page) -> None:
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    hostile = samples.dicom(np.array(Image.open(SAMPLE)), patient="<img src=x onerror=alert(1)>")
    drop(page, "<img src=x onerror=alert(2)>.dcm", hostile)
    expect(page.get_by_text("Calibrated probability of cancer:").first).to_be_visible()
    settled(page)
    assert page.locator("img[src=x]").count() == 0
    assert dialogs == []
