"""Every page in a hand: 420 pixels wide, touched and not pointed at."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, CDPSession, FloatRect, Page, expect

from local.stack.system import Stack
from tests.dashboard.browser import CHROMIUM, chromium, settled
from tests.dashboard.conftest import record_scan

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
_PATIENCE_MS = 60_000
Open = Callable[[str], Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def phone(browser: Browser, stack: Stack) -> Iterator[Open]:
    """Open an address on a phone."""
    screen = {"width": 420, "height": 860}
    context = browser.new_context(viewport=screen, has_touch=True, is_mobile=True, user_agent="Android Mobile")
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)

    def opened(address: str) -> Page:
        page = context.new_page()
        page.goto(f"{stack.url('dashboard')}/{address}")
        expect(page.get_by_text("For research use. Not a medical device.")).to_be_visible()
        settled(page)
        return page

    yield opened
    context.close()


def test_the_answer_comes_right_after_the_drop_zone(phone: Open) -> None:
    page = phone("?sample=Drawn+lesion")
    page.get_by_text("Calibrated probability of cancer:").first.wait_for()
    settled(page)
    tops = """() => ["[data-testid=stFileUploaderDropzone]", ".st-key-answer", ".st-key-samples"]
        .map((part) => document.querySelector(part).getBoundingClientRect().top)"""
    places = page.evaluate(tops)  # in one moment, because a picture that arrives moves what stands below it
    assert places == sorted(places)
    samples = page.get_by_role("group", name="Samples").get_by_role("button")
    assert len({round(sample.bounding_box()["y"]) for sample in samples.all()}) == 1


def test_the_filters_are_folded(phone: Open) -> None:
    page = phone("worklist")
    expect(page.get_by_text("Order and filters")).to_be_visible()
    expect(page.get_by_label("Scan id begins with")).to_be_hidden()


def test_two_fingers_zoom_and_one_then_moves(phone: Open) -> None:
    page = phone("?sample=Drawn+lesion")
    viewer, picture = page.locator(".viewer[data-painted]"), page.locator(".viewer .plain")
    viewer.wait_for()
    expect(page.locator(".viewer .habits")).to_contain_text("Two fingers: zoom")
    picture.scroll_into_view_if_needed()
    settled(page)
    fingers = page.context.new_cdp_session(page)
    box = picture.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    touch(fingers, [(moved(middle, -by), moved(middle, by)) for by in (20, 40, 60)])
    expect(viewer).to_have_attribute("data-painted", looks('"zoom":3,'))
    touch(fingers, [(middle,), (moved(middle, 30),), (moved(middle, 60),)])
    expect(viewer).not_to_have_attribute("data-painted", looks('"across":0.5,'))
    expect(viewer).to_have_attribute("data-painted", looks('"level":128,"width":256,'))


def test_a_chosen_row_is_seen_without_scrolling(phone: Open, source: str) -> None:
    for place in range(16):
        record_scan(source, place, 0.4)
    page = phone(f"worklist?source={source}")
    table = page.get_by_test_id("stDataFrame")
    table.locator("canvas").first.wait_for()
    settled(page)
    box = table.bounding_box()
    page.touchscreen.tap(box["x"] + 18, box["y"] + 54)
    expect(page.get_by_role("button", name="Read this scan")).to_be_in_viewport(ratio=1)


def test_short_things_stand_side_by_side(phone: Open) -> None:
    page = phone("model?part=Threshold")
    figures = page.get_by_test_id("stMetric")
    figures.nth(3).wait_for()
    settled(page)
    assert len({round(figure.bounding_box()["y"]) for figure in figures.all()}) == 2
    page = phone("?sample=A+cat")
    page.get_by_role("button", name="CSV").wait_for()
    settled(page)
    assert len({round(page.get_by_role("button", name=name).bounding_box()["y"]) for name in ("JSON", "CSV")}) == 1


def test_a_tables_tools_do_not_lie_on_a_heading(phone: Open, source: str) -> None:
    record_scan(source, 0, 0.4)
    page = phone("model?part=Versions")
    page.get_by_role("heading", name="Versions that have scored scans").wait_for()
    page.get_by_test_id("stElementToolbar").first.wait_for()
    settled(page)
    headings, tools = page.get_by_role("heading").all(), page.get_by_test_id("stElementToolbar").all()
    shown = [(one.bounding_box(), other.bounding_box()) for one in headings for other in tools]
    assert not any(one and other and overlap(one, other) for one, other in shown)


def overlap(one: FloatRect, other: FloatRect) -> bool:
    """Return whether two boxes lie on each other."""
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_a_picture_of_many_is_larger_than_the_screen(phone: Open) -> None:
    page = phone("model?part=Heat+maps")
    picture = page.get_by_test_id("stImage").locator("img").first
    picture.wait_for()
    settled(page)
    assert picture.bounding_box()["width"] >= 900
    assert page.evaluate("document.documentElement.scrollWidth") == 420


def moved(point: tuple[float, float], by: float) -> tuple[float, float]:
    return (point[0] + by, point[1])


def touch(fingers: CDPSession, path: list[tuple[tuple[float, float], ...]]) -> None:
    """Put fingers down, move them along a path, and lift them."""
    for place, points in enumerate(path):
        told = [{"x": x, "y": y, "id": name} for name, (x, y) in enumerate(points)]
        kind = "touchMove" if place else "touchStart"
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def looks(part: str) -> re.Pattern[str]:
    """What the viewer says of a look with this in it."""
    return re.compile(re.escape(part))
