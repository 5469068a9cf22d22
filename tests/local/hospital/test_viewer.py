"""Chromium on OHIF: the study with its slices, the report and the heat map in it, as a radiologist would open it."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page

from local.hospital.tools import OHIF, missing
from shared.results.headers import encoded, read_header
from shared.results.heat_map_image import HeatMap, heat_map_images
from shared.results.structured_report import structured_report
from tests.dashboard.browser import CHROMIUM, chromium, new_page
from tests.services.gateway.conftest import Pacs, pacs  # noqa: F401 - a fixture
from tests.support.series import slices, summarised
from tests.support.servers import python, running
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
    pytest.mark.skipif("OHIF" in missing(), reason="`python -m local.hospital.tools` fetches OHIF into .local/tools"),
]
SUSPICIOUS = slice(18, 21)


@pytest.fixture(scope="module")
def study(pacs: Pacs) -> str:  # noqa: F811
    """A study in the PACS with its results. Its UID comes back."""
    files = slices("viewed")
    for content in files[10:30]:
        pacs.store(content)
    answer, headers = summarised(files[SUSPICIOUS]), [read_header(file) for file in files[SUSPICIOUS]]
    values = np.zeros((16, 16), np.float32)
    values[5:8, 9:12] = 1
    image = np.full((233, 197), 90, np.uint8)
    heat_maps = [HeatMap(image=image, values=values, left=-18, top=0, side=233)] * 3
    for result in (structured_report(answer, headers), *heat_map_images(answer, headers, heat_maps)):
        pacs.store(encoded(result))
    return str(headers[0].StudyInstanceUID)


@pytest.fixture(scope="module")
def viewer(pacs: Pacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    dicomweb = f"{pacs.service.url}/dicom-web"
    command = python("-m", "local.hospital.viewer", "--port", "PORT", "--ohif", str(OHIF), "--dicomweb", dicomweb)
    with running(command, tmp_path_factory.mktemp("viewer") / "log", "/app-config.js") as server:
        yield server.url


@pytest.fixture
def opened(viewer: str, study: str) -> Iterator[Page]:
    with chromium() as browser:
        page = new_page(browser)
        page.goto(f"{viewer}/viewer?StudyInstanceUIDs={study}")
        page.get_by_text("Skip all").click()  # a tour of the viewer, for who is new to it
        series(page, "Scanflow report").wait_for()
        yield page


def series(page: Page, description: str) -> Locator:
    """The entry of a series in the study's list."""
    kinds = "[data-cy=study-browser-thumbnail], [data-cy=study-browser-thumbnail-no-image]"
    return page.locator(kinds).filter(has_text=description)


def coloured(page: Page) -> int:
    """How many pixels of the viewport are neither grey nor the frame's blue."""
    picture = Image.open(io.BytesIO(page.locator("[data-cy=viewport-pane] canvas").first.screenshot())).convert("RGB")
    red, _, blue = np.moveaxis(np.asarray(picture).astype(int), 2, 0)
    return int((red - blue > 60).sum())


def test_study_shows_slices_heat_map_and_report(opened: Page) -> None:
    for description in ("T1 with contrast", "Scanflow heat map", "Scanflow report"):
        assert series(opened, description).count() == 1
    assert coloured(opened) == 0
    series(opened, "Scanflow heat map").dblclick()
    wait_until(lambda: coloured(opened) > 500, pause_s=0.5)
    series(opened, "Scanflow report").dblclick()
    opened.get_by_text("Unverified. For research use only").first.wait_for()
    opened.get_by_text("93 % Present Glioma").first.wait_for()
