"""Studies: series with one answer each, opened to their slices."""

import uuid
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.queries import series
from local import samples
from local.stack.system import BUCKETS, Stack
from shared import config
from shared.gcp import bigquery, storage
from shared.pseudonyms import pseudonym
from tests.dashboard.conftest import NOW, record_scan, words

Page = Callable[..., AppTest]


def study_of(series_id: str) -> str:
    """Return the id of the study that a series of these tests belongs to, and no other."""
    return series_id[::-1]


@pytest.fixture
def three_slices(system: Stack, source: str) -> str:
    """A series of three slices in the scans bucket, as the pipeline records it. Its id comes back."""
    series_id, at = uuid.uuid4().hex * 2, NOW.isoformat()
    common = {"series_id": series_id, "study_id": study_of(series_id), "label": "Unlabelled", "source": source}
    scan_ids = []
    for place in (2, 0, 1):
        scan_id = uuid.uuid4().hex * 2
        name = f"Unlabelled/{scan_id}.png"
        storage.create(BUCKETS["scans"], name, samples.encode(samples.healthy_slices()[place], "PNG"), "image/png")
        row = {"scan_id": scan_id, "object_name": name, "slice_position_mm": float(place), "accepted_at": at}
        bigquery.append("series_slices", common | row, key=f"{series_id}/{scan_id}")
        scan_ids.append(scan_id)
    answer = {"model_version": "test-1", "prediction": "Cancer", "threshold": 0.5, "answered_at": at}
    for revision, probability in (("first", 0.3), ("second", 0.8)):
        at_last = {"revision": revision, "probability": probability, "scored": 2, "accepted": 3}
        ends = {"lowest_probability": 0.6, "highest_probability": 0.9, "suspicious_scan_ids": [scan_ids[0]]}
        when = {"answered_at": at if revision == "first" else at.replace(str(NOW.year), str(NOW.year + 1), 1)}
        bigquery.append("series", common | answer | at_last | ends | when, key=f"{series_id}/{revision}")
    series.answered.clear()
    return series_id


def test_a_series_stands_once_with_its_latest_answer(page: Page, three_slices: str) -> None:
    listed = page("studies").dataframe[0].value
    (row,) = listed[listed["Series"] == three_slices[:12]].to_dict("records")
    assert row["P(cancer)"].endswith("80%")
    assert row["Slices"] == "2 of 3"
    assert row["Study"] == study_of(three_slices)[:12]


def test_the_chosen_series_shows_its_most_suspicious_slice_and_is_read(page: Page, three_slices: str) -> None:
    app = page("studies")
    app.session_state["chosen series"] = three_slices
    app = app.run()
    assert not app.exception
    assert "the probability would be 60% to 90%" in words(app)
    assert app.get("image")


def test_a_series_is_read_slice_by_slice_along_its_normal(page: Page, three_slices: str) -> None:
    app = page("read", series=three_slices)
    assert not app.exception
    assert "Series of 3 slices" in words(app)
    stored = [row["scan_id"] for row in series.slices(three_slices)]
    read = app.session_state["answers"]
    assert [key.removeprefix("scan ") for key in read] == stored
    assert all(isinstance(said, list) for said in read.values())


def test_an_id_that_no_series_has_is_said(page: Page) -> None:
    assert "No series has this id" in page("read", series="0").error[0].value


def test_a_study_is_found_by_its_uid_of_which_nothing_is_kept(
    page: Page, three_slices: str, system: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """The UID stands in no state, address or log afterwards, and its pseudonym finds the study alone."""
    uid, at = f"2.25.{uuid.uuid4().int}", NOW.isoformat()
    study_id = pseudonym(config.pseudonym_key(), uid)
    row = {"series_id": uuid.uuid4().hex * 2, "study_id": study_id, "label": "Unlabelled", "source": "ward-3"}
    answer = {"revision": "first", "model_version": "test-1", "prediction": "Cancer", "threshold": 0.5}
    figures = {"probability": 0.7, "lowest_probability": 0.6, "highest_probability": 0.8, "scored": 3, "accepted": 3}
    bigquery.append("series", row | answer | figures | {"answered_at": at}, key=row["series_id"])
    app = page("studies")
    app = app.text_input[0].set_value(f" {uid} ").run()
    assert not app.exception
    assert list(app.dataframe[0].value["Series"]) == [row["series_id"][:12]]
    kept = f"{app.session_state._state.filtered_state} {app.query_params} {words(app)} {caplog.text}"
    assert study_id in kept
    assert uid not in kept
    app = next(button for button in app.button if "show all again" in button.label).click().run()
    assert three_slices[:12] in set(app.dataframe[0].value["Series"])


def test_a_study_is_found_by_its_accession_number(page: Page, three_slices: str) -> None:
    number = f"ACC-{uuid.uuid4().hex[:8]}"
    record_scan(
        "ward-3", study_id=study_of(three_slices), accession_id=pseudonym(config.pseudonym_key(), number.upper())
    )
    app = page("studies").text_input[0].set_value(number).run()
    assert not app.exception
    assert list(app.dataframe[0].value["Series"]) == [three_slices[:12]]


def test_a_uid_that_no_study_has_is_said(page: Page) -> None:
    app = page("studies").text_input[0].set_value("1.2.3").run()
    assert "No series of this study" in app.info[0].value


def test_without_the_key_the_field_says_so(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PSEUDONYM_KEY")
    field = page("studies").text_input[0]
    assert field.disabled
    assert "no pseudonym key" in field.placeholder
