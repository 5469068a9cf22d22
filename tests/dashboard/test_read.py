"""Read a scan: from a file or a sample to an answer, an opinion and a report."""

import io
import socket
from collections.abc import Callable

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from local import samples
from local.stack.system import Stack
from shared.gcp import bigquery
from tests.dashboard.conftest import words

Page = Callable[..., AppTest]


def upload(app: AppTest, *contents: bytes, name: str = "scan") -> AppTest:
    app.file_uploader[0].set_value([(name, content, "application/octet-stream") for content in contents])
    return app.run()


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


@pytest.fixture(scope="module")
def lesion() -> bytes:
    return samples.encode(samples.lesion_slices()[6], "PNG")


def test_a_sample_is_read_with_one_click(page: Page) -> None:
    app = press(page("read"), "Drawn lesion")
    assert not app.exception
    assert "Calibrated probability of cancer" in words(app) or "does not look like a brain MRI" in words(app)
    assert "model" in words(app).lower()


def test_a_photograph_is_not_taken_for_a_brain(page: Page) -> None:
    app = press(page("read"), "A cat")
    assert "Not a brain MRI" in words(app)
    assert "does not look like a brain MRI" in words(app)


def test_every_file_of_several_is_answered(page: Page, lesion: bytes) -> None:
    healthy = samples.encode(samples.healthy_slices()[3], "JPEG")
    app = upload(page("read"), lesion, healthy)
    assert not app.exception
    assert len(app.dataframe[0].value) == 2


def test_sessions_see_nothing_of_each_other(page: Page, lesion: bytes) -> None:
    assert "Calibrated" in words(upload(page("read"), lesion))
    assert "Calibrated" not in words(page("read"))


def test_a_file_of_several_slices_has_a_slider(page: Page) -> None:
    app = upload(page("read"), samples.multi_page_tiff(samples.healthy_slices()[:4]))
    slider = next(slider for slider in app.slider if slider.label == "Slice")
    assert (slider.min, slider.max) == (1, 4)
    before = words(app)
    app = slider.set_value(1 + slider.value % 4).run()
    assert not app.exception
    assert words(app) != before


def test_a_patients_name_appears_nowhere(page: Page) -> None:
    name = "<script>alert(1)</script>^Sample"
    app = upload(page("read"), samples.dicom(samples.healthy_slices()[5], patient=name), name="Jane Doe.dcm")
    assert "Calibrated" in words(app) or "does not look" in words(app)
    assert "script" not in words(app)
    assert "Jane" not in words(app)


def test_a_file_that_is_no_scan_says_what_to_do(page: Page) -> None:
    app = upload(page("read"), b"Dear colleague, please see the scan.")
    assert not app.exception
    assert "not an image" in app.error[0].value


def test_an_unreachable_service_is_said_and_tried_again(
    page: Page, system: Stack, lesion: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("INFERENCE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        app = upload(page("read"), lesion)
        assert "cannot be reached" in app.error[0].value
    monkeypatch.setenv("INFERENCE_URL", system.url("inference"))
    app = press(app, "Try again")
    assert not app.error
    assert "Calibrated" in words(app) or "does not look" in words(app)


def test_a_disagreement_is_stored(page: Page, lesion: bytes) -> None:
    app = upload(page("read"), lesion)
    app = disagree(app, "The ring is drawn; robert'); DROP TABLE feedback;--")
    assert "Stored" in app.success[0].value
    rows = bigquery.query("SELECT * FROM `{dataset}.feedback` WHERE STARTS_WITH(reason, 'The ring')")
    assert [row["agrees"] for row in rows] == [False]
    assert rows[0]["reading"] == "Cannot tell"


def disagree(app: AppTest, reason: str) -> AppTest:
    opinion = next(group for group in app.button_group if group.label == "Do you agree?")
    app = opinion.set_value("Disagree").run()
    next(box for box in app.selectbox if box.label == "What do you see?").set_value("Cannot tell")
    app.text_area[0].set_value(reason)
    return press(app, "Send")


def test_an_opinion_that_cannot_be_stored_is_kept(page: Page, lesion: bytes, unreachable_bigquery: None) -> None:
    app = disagree(upload(page("read"), lesion), "Half a page of thought")
    assert "still here" in app.error[0].value
    assert app.text_area[0].value == "Half a page of thought"


@pytest.fixture
def unreachable_bigquery(system: Stack, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(bigquery, "_RETRY", bigquery._RETRY.with_timeout(1))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{closed.getsockname()[1]}")
        bigquery.client.cache_clear()
        yield
    bigquery.client.cache_clear()


def test_an_id_that_no_scan_has_is_said(page: Page) -> None:
    app = page("read", scan="<b>0</b>")
    assert "No accepted scan has this id" in app.error[0].value
    assert "<b>" not in words(app)


def test_the_sliders_change_the_picture_and_not_the_answer(page: Page, lesion: bytes) -> None:
    app = upload(page("read"), lesion)
    answer = [element.value for element in app.markdown]
    for label, value in (("Opacity of the heat map", 0.2), ("Zoom", 3.0), ("Window width", 90)):
        app = next(slider for slider in app.slider if slider.label == label).set_value(value).run()
    assert not app.exception
    assert [element.value for element in app.markdown] == answer


def test_a_large_scan_is_read(page: Page) -> None:
    content = io.BytesIO()
    Image.fromarray(samples.healthy_slices()[0]).resize((3000, 3500)).save(content, "PNG")
    app = upload(page("read"), content.getvalue())
    assert not app.exception
    assert not app.error
