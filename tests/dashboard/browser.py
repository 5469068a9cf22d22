"""Debian's Chromium, driven by Playwright: for the browser tests and the README's screenshots."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
WIDTH, HEIGHT = 1360, 860
_PATIENCE_MS = 60_000
"""Two cores may be busy with a whole test suite."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, theme: str = "light") -> Page:
    """A page of its own session, in the theme `light` or `dark`."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
    page.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    return page


def settled(page: Page) -> None:
    """Wait until the app runs no more, and shows no place-holder or faded part of what was."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function(
        "() => !document.querySelector('[data-stale=true], [data-testid=stSkeleton], [data-testid=stSpinner]')"
    )


def choose_first_row(page: Page) -> None:
    """Tick the box before the first row of the page's table, which is drawn on a canvas."""
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    settled(page)
    table = page.get_by_test_id("stDataFrame").bounding_box()
    page.mouse.click(table["x"] + 18, table["y"] + 54)
