"""Worklist: what arrived, how far it came, found again by order, filter, id and page."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import components
from dashboard.queries import scans
from local.stack.system import Stack
from shared.gcp import bigquery
from tests.dashboard.conftest import NOW, record_features, record_prediction, record_rejection, record_scan, words

Page = Callable[..., AppTest]


def shown(app: AppTest) -> list[str]:
    """The beginnings of the ids that are listed."""
    return list(app.dataframe[0].value["Scan"])


def short(scan_ids: list[str]) -> list[str]:
    return [scan_id[:8] for scan_id in scan_ids]


def listed(status: str, source: str) -> list[bigquery.Row]:
    """Rows of a source with this status."""
    return scans.worklist("Last day", "Newest first", status, {"source": source}, 1)


@pytest.fixture
def three(system: Stack, source: str) -> list[str]:
    return [record_scan(source, place, probability) for place, probability in enumerate((0.2, 0.97, 0.6))]


def test_the_newest_scan_stands_first(page: Page, three: list[str], source: str) -> None:
    app = page("worklist", source=source)
    assert not app.exception
    assert shown(app) == short(three[::-1])


def test_the_most_urgent_scan_can_stand_first(page: Page, three: list[str], source: str) -> None:
    app = page("worklist", source=source, sort="Most urgent first")
    assert shown(app) == short([three[1], three[2], three[0]])


def test_a_scan_is_found_by_the_beginning_of_its_id(page: Page, three: list[str]) -> None:
    app = page("worklist", search=three[0][:20])
    assert shown(app) == short([three[0]])


def test_a_search_is_a_value_and_never_sql(page: Page, three: list[str]) -> None:
    app = page("worklist", search="' OR 1=1 --")
    assert not app.exception
    assert "No scan matches." in words(app)


def test_predictions_filter(page: Page, three: list[str], source: str) -> None:
    app = page("worklist", source=source, prediction="Cancer")
    assert set(shown(app)) == set(short(three[1:]))


def test_the_furthest_step_is_shown(page: Page, system: Stack, source: str) -> None:
    scan_id = record_scan(source)
    assert list(page("worklist", source=source).dataframe[0].value["Step"][0]) == ["Accepted"]
    record_prediction(scan_id, 0.9, NOW.isoformat())
    scans.worklist.clear()
    assert list(page("worklist", source=source).dataframe[0].value["Step"][0]) == ["Scored"]
    record_features(scan_id, source, [0.1, 0.2])
    assert [row["scan_id"] for row in listed("Features written", source)] == [scan_id]
    assert "Features written" in [step["step"] for step in scans.trail(scan_id)]


def test_what_readers_said_stands_in_the_list(page: Page, system: Stack, source: str) -> None:
    scan_id = record_scan(source, probability=0.9)
    for place, agrees in enumerate((True, True, False)):
        said = {"feedback_id": f"{scan_id}/{place}", "scan_id": scan_id, "model_version": "test-1", "agrees": agrees}
        row = said | {"prediction": "Cancer", "probability": 0.9, "reading": "Cancer", "given_at": NOW.isoformat()}
        bigquery.append("feedback", row, key=said["feedback_id"])
    scans.worklist.clear()
    assert list(page("worklist", source=source).dataframe[0].value["Readers"]) == ["2 agreed, 1 disagreed"]


def test_an_address_behind_the_last_page_shows_the_last(page: Page, three: list[str], source: str) -> None:
    assert shown(page("worklist", source=source, page="7")) == short(three[::-1])


def test_a_bigquery_that_hangs_is_said_after_a_while(
    page: Page, three: list[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list still comes; what was said meanwhile is what a reader would see."""
    said = []
    monkeypatch.setattr(components, "_SLOW_S", 0.05)
    monkeypatch.setattr(components, "slow_sentence", said.append)
    scans.worklist.clear()
    assert shown(page("worklist", source=source)) == short(three[::-1])
    assert said


def test_a_rejected_file_says_why(page: Page, system: Stack, source: str) -> None:
    record_scan(source)
    file_id = record_rejection(source, "truncated")
    app = page("worklist", search=file_id)
    (row,) = app.dataframe[0].value.to_dict("records")
    assert (row["Answer"], row["P(cancer)"], row["Readers"]) == ("truncated", "", "")
    assert [step["step"] for step in scans.trail(file_id)] == ["Uploaded", "Rejected"]


def test_a_page_is_told_from_the_others_of_its_file(page: Page, system: Stack) -> None:
    file_id = uuid.uuid4().hex * 2
    assert components.short(file_id) == file_id[:8]
    assert components.short(f"{file_id}-0003") == f"{file_id[:8]} p. 3"
    assert components.short("[a](link)") == ""
    assert f"scan {file_id[:8]} p. 3" in words(page("read", scan=f"{file_id}-0003"))


def test_a_second_model_does_not_double_a_scan(page: Page, system: Stack, source: str) -> None:
    scan_id = record_scan(source, probability=0.2)
    record_prediction(
        scan_id, 0.8, NOW.isoformat().replace("+00:00", "Z").replace(str(NOW.year), str(NOW.year + 1), 1), "test-2"
    )
    app = page("worklist", source=source)
    assert list(app.dataframe[0].value["P(cancer)"]) == [components.bar(0.8)]


def test_pages_follow_each_other(page: Page, system: Stack, source: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        everything = list(pool.map(lambda place: record_scan(source, place), range(scans.PAGE_ROWS + 3)))
    assert shown(page("worklist", source=source, sort="Oldest first", page="2")) == short(everything[scans.PAGE_ROWS :])
    pages = [scans.worklist("Last day", "Oldest first", None, {"source": source}, page) for page in (1, 2)]
    assert [row["scan_id"] for rows in pages for row in rows] == everything
    assert {row["total"] for rows in pages for row in rows} == {len(everything)}


def test_another_filter_begins_at_the_first_page(page: Page, three: list[str], source: str) -> None:
    app = page("worklist", source=source, page="7")
    app = next(box for box in app.selectbox if box.label == "Prediction").set_value("Cancer").run()
    assert set(shown(app)) == set(short(three[1:]))


@pytest.mark.parametrize("number", ["-1", "x", "9" * 40])
def test_an_address_with_a_wrong_page_shows_one_that_there_is(
    page: Page, three: list[str], source: str, number: str
) -> None:
    app = page("worklist", source=source, page=number)
    assert not app.exception
    assert shown(app) == short(three[::-1])


def test_statuses_tell_scans_apart(system: Stack, source: str) -> None:
    waiting, scored = record_scan(source), record_scan(source, probability=0.4)
    rejected = record_rejection(source, "blank")
    found = {status: [row["scan_id"] for row in listed(status, source)] for status in scans.STATUSES}
    assert found["Waiting for a score"] == [waiting]
    assert found["Scored"] == [scored]
    assert found["Rejected"] == [rejected]
    assert found["Prepared"] == []


def test_an_unreachable_bigquery_keeps_the_filters(page: Page, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    app = page("worklist", search="abc")
    monkeypatch.setattr(bigquery, "_RETRY", bigquery._RETRY.with_timeout(1))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    bigquery.client.cache_clear()
    scans.worklist.clear()
    app.run()
    bigquery.client.cache_clear()
    assert not app.exception
    assert "cannot be reached" in app.error[0].value
    assert next(box for box in app.text_input).value == "abc"
