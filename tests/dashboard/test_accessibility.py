"""Every page for everybody: axe-core, the console, and requests to other hosts, in both themes and at three widths."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from local.stack.system import Stack
from tests.dashboard.browser import CHROMIUM, chromium, settled

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
ADDRESSES = (
    "",
    "?sample=Five+slices",
    "?sample=A+cat",
    "worklist",
    "review",
    "studies",
    "model",
    "model?part=In+service",
    "model?part=Threshold",
    "model?part=Heat+maps",
    "model?part=Versions",
    "model?part=Card+and+report",
    "data",
    "data?part=Ingestion+checks",
    "data?part=Readers%27+corrections",
    "drift",
    "operations",
)
THEMES = ("light", "dark")
WIDTHS = (420, 1024, 1360)
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("first", THEMES)
def test_no_page_has_a_serious_finding_a_console_error_or_a_foreign_request(
    browser: Browser, stack: Stack, first: str
) -> None:
    """Half of the pages are opened in one theme and half in the other, and each then changes to the other."""
    page = browser.new_page(viewport={"width": 1360, "height": 860}, color_scheme=first)
    page.set_default_timeout(60_000)
    faults = watched(page)
    for address in ADDRESSES[THEMES.index(first) :: len(THEMES)]:
        page.goto(f"{stack.url('dashboard')}/{address}")
        expect(page.get_by_text("For research use. Not a medical device.")).to_be_visible(timeout=60_000)
        for theme in sorted(THEMES, key=lambda theme: theme != first):
            page.emulate_media(color_scheme=theme)
            expect(page.get_by_test_id("stApp")).to_have_css("color-scheme", theme)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 860})
                settled(page)
                faults += [f"{address} in {theme} at {width}: {finding}" for finding in findings(page)]
        page.emulate_media(color_scheme=first)
    page.close()
    assert faults == []


def watched(page: Page) -> list[str]:
    """What goes wrong on the page from now on: errors in its console, exceptions, requests to other hosts."""
    faults: list[str] = []
    page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    page.on("request", lambda request: faults.append(f"foreign: {request.url}") if is_foreign(request.url) else None)
    return faults


def is_foreign(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https", "ws", "wss") and urlsplit(url).hostname != "127.0.0.1"


def findings(page: Page) -> list[str]:
    """Serious and critical findings of axe-core."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']} {node['target']}"
        for found in violations
        if found["impact"] in SERIOUS
        for node in found["nodes"]
    ]


def test_the_checks_find_what_they_look_for(browser: Browser) -> None:
    """Otherwise the test above could pass because nothing is ever found."""
    page = browser.new_page()
    faults = watched(page)
    page.set_content("<img src='https://elsewhere.invalid/x.png'><p style='color:#ccc;background:#fff'>Pale</p>")
    page.evaluate("console.error('seen')")
    assert any("color-contrast" in finding for finding in findings(page))
    assert any("image-alt" in finding for finding in findings(page))
    assert "console: seen" in faults
    assert any(fault.startswith("foreign: https://elsewhere.invalid") for fault in faults)
    page.close()
