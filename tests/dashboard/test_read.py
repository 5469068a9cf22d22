"""Read a scan: from a file or a sample to an answer and feedback."""

import io
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard import inference_client, session
from local import samples
from local.stack.system import Stack
from shared.gcp import bigquery
from shared.ml.prediction import PredictionResponse
from tests.dashboard.conftest import ROOT, words
from tests.dashboard.test_uploads import instance, zipped

Page = Callable[..., AppTest]
SAMPLES = ROOT / "dashboard" / "samples"


def upload(app: AppTest, *contents: bytes, name: str = "scan") -> AppTest:
    app.file_uploader[0].set_value([(name, content, "application/octet-stream") for content in contents])
    return app.run()


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def expected(content: bytes) -> PredictionResponse:
    """What the service says of a file of one page."""
    (result,) = inference_client.read_file(content)
    return result


@pytest.fixture(scope="module")
def lesion() -> bytes:
    return samples.encode(samples.lesion_slices()[6], "PNG")


def test_a_sample_is_opened_by_its_address(page: Page) -> None:
    app = page("read", sample="Drawn lesion")
    assert not app.exception
    assert f" {expected((SAMPLES / 'lesion.png').read_bytes()).prediction}]" in words(app)
    assert "Calibrated probability of cancer" in words(app)


def test_what_is_refused_shows_nothing_about_cancer(page: Page) -> None:
    app = page("read", sample="A cat")
    assert "Not a brain MRI" in words(app)
    assert "does not look like a brain MRI" in words(app)
    assert "cancer" not in words(app).lower()
    assert not app.get("vega_lite_chart") + app.get("arrow_vega_lite_chart")
    assert app.get("download_button")[1].proto.label == "PNG"


def test_an_answer_about_a_tumour_has_its_bar(page: Page) -> None:
    """So that the test above cannot pass because nothing ever has one."""
    app = page("read", sample="Drawn lesion")
    assert app.get("vega_lite_chart") + app.get("arrow_vega_lite_chart")


def test_an_uncertain_answer_says_so_beside_it(page: Page, lesion: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    result = expected(lesion)
    doubtful = replace(result, uncertain=True, uncertain_reason="It lies near the threshold.", prediction="Cancer")
    monkeypatch.setattr(session.inference_client, "read_file", lambda content: [doubtful])
    app = upload(page("read"), lesion)
    assert [warning.value for warning in app.warning] == ["It lies near the threshold."]
    assert "Tumour type" not in words(app)


def test_every_file_of_a_drop_is_answered_in_order(page: Page) -> None:
    healthy = samples.healthy_slices()
    contents = [samples.encode(healthy[place % len(healthy)][place:], "PNG") for place in range(24)]
    app = page("read")
    app.file_uploader[0].set_value([(f"{n:02}.png", content, "image/png") for n, content in enumerate(contents)])
    app = app.run()
    assert not app.exception
    assert list(app.dataframe[0].value["File"]) == [f"{n:02}.png" for n in range(24)]


def test_a_zip_of_a_series_is_one_thing_to_look_at(page: Page) -> None:
    series = {f"study/IM{place}": instance("1.2.3", place) for place in range(4)}
    app = upload(page("read"), zipped(series), name="study.zip")
    assert not app.exception
    assert not app.dataframe
    (read,) = app.session_state["new uploads"]
    assert [part.name for part in read.parts] == list(series)


def test_a_zip_that_cannot_be_unpacked_says_so_by_its_name(page: Page) -> None:
    app = upload(page("read"), zipped({"a": bytes(99)})[:-20], name="study.zip")
    assert "study" in app.error[0].value
    assert "Pack it again" in app.error[0].value


def test_sessions_see_nothing_of_each_other(page: Page, lesion: bytes) -> None:
    assert "Calibrated" in words(upload(page("read"), lesion))
    assert "Calibrated" not in words(page("read"))


def test_leaving_the_page_and_coming_back_keeps_what_was_dropped(page: Page, lesion: bytes) -> None:
    healthy = samples.encode(samples.healthy_slices()[3], "JPEG")
    app = upload(page("read"), lesion, healthy)
    app = app.switch_page("views/data.py").run()
    assert "Calibrated" not in words(app)
    app = app.switch_page("views/read.py").run()
    assert len(app.dataframe[0].value) == 2
    assert "Calibrated" in words(app)
    app = press(app, "Forget these files")
    assert not app.dataframe
    assert "Calibrated" not in words(app)


def test_a_sample_is_shown_whatever_was_dropped(page: Page, lesion: bytes) -> None:
    app = upload(page("read"), lesion)
    app.query_params["sample"] = "A cat"
    app = app.run()
    assert "does not look like a brain MRI" in words(app)
    app = press(app, "Back to your files")
    assert "Calibrated" in words(app)


def test_what_a_header_says_appears_nowhere(page: Page) -> None:
    name = "<script>alert(1)</script>^Sample"
    app = upload(page("read"), samples.dicom(samples.healthy_slices()[5], patient=name), name="IM0001")
    assert "scan " in words(app).lower()
    assert "script" not in words(app)


def test_a_files_name_is_text_and_nothing_else(page: Page) -> None:
    app = upload(page("read"), b"no scan", name="![](http://elsewhere.example/x.png)")
    assert "![](http" not in app.error[0].value
    assert r"\!\[\]\(http" in app.error[0].value


def test_a_file_that_is_no_scan_says_what_to_do(page: Page) -> None:
    app = upload(page("read"), b"Dear colleague, please see the scan.", name="letter.txt")
    assert not app.exception
    assert "letter" in app.error[0].value
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
    assert f" {expected(lesion).prediction}]" in words(app)


def test_feedback_is_stored_shown_again_and_changed(page: Page, lesion: bytes) -> None:
    app = upload(page("read"), lesion)
    app = disagree(app, "The ring is drawn; robert'); DROP TABLE feedback;--")
    assert "Stored" in app.success[0].value
    rows = bigquery.query("SELECT * FROM `{dataset}.feedback` WHERE STARTS_WITH(reason, 'The ring')")
    assert [row["agrees"] for row in rows] == [False]
    assert rows[0]["reading"] == "Cannot tell"
    app = app.run()
    assert "you could not tell" in app.info[0].value
    assert "The ring is drawn" in app.info[0].value
    agreement(app).set_value("Agree").run()
    app = press(app, "Send")
    rows = bigquery.query(
        "SELECT agrees FROM `{dataset}.feedback` WHERE scan_id = @scan_id", scan_id=expected(lesion).scan_id
    )
    assert [row["agrees"] for row in rows] == [True]


def disagree(app: AppTest, reason: str) -> AppTest:
    app = agreement(app).set_value("Disagree").run()
    next(box for box in app.selectbox if box.label == "What do you see?").set_value("Cannot tell")
    app.text_area[0].set_value(reason)
    return press(app, "Send")


def agreement(app: AppTest) -> object:
    return next(group for group in app.button_group if group.label == "Do you agree?")


def test_feedback_that_cannot_be_stored_is_kept(page: Page, lesion: bytes, unreachable_bigquery: None) -> None:
    app = disagree(upload(page("read"), lesion), "Half a page of thought")
    assert "still here" in app.error[0].value
    assert app.text_area[0].value == "Half a page of thought"


@pytest.fixture
def unreachable_bigquery(system: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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


def test_a_large_scan_is_read(page: Page) -> None:
    content = io.BytesIO()
    Image.fromarray(samples.healthy_slices()[0]).resize((3000, 3500)).save(content, "PNG")
    app = upload(page("read"), content.getvalue())
    assert not app.exception
    assert not app.error
