"""record_scan: one row a fact, however often and in whatever order it arrives."""

from dataclasses import asdict, replace

import pytest

from local.samples import encode, healthy_slices
from shared.events import ScanRejected
from shared.gcp import bigquery
from tests.functions.conftest import Cloud, Push, push
from tests.support.events import scan_accepted, scan_scored, stored_scan
from tests.support.series import summarised

TABLES = ("scans", "rejections", "series_slices", "slice_scores", "series")


@pytest.fixture(scope="module")
def record_scan(cloud: Cloud) -> Push:
    return push("record_scan")


def rejection(file_id: str) -> ScanRejected:
    return ScanRejected(
        file_id=file_id,
        label="Cancer",
        source="test",
        reason="truncated",
        generation=1,
        size=10,
        uploaded_at="2026-01-01T00:00:00+00:00",
        rejected_at="2026-01-01T00:00:01+00:00",
    )


def test_facts_delivered_twice_and_out_of_order_are_one_row_each(cloud: Cloud, record_scan: Push) -> None:
    first = stored_scan(cloud.buckets["scans"], encode(healthy_slices()[0], "PNG"))
    second = stored_scan(cloud.buckets["scans"], encode(healthy_slices()[1], "PNG"))
    for event in (second, rejection("f" * 64), first, second, rejection("f" * 64), first):
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT * FROM {dataset}.scans")
    assert sorted(row["scan_id"] for row in rows) == sorted([first.scan_id, second.scan_id])
    assert {row["object_name"] for row in rows} == {first.name, second.name}
    (rejected,) = bigquery.query("SELECT file_id, reason FROM {dataset}.rejections")
    assert rejected == {"file_id": "f" * 64, "reason": "truncated"}


def test_slice_of_a_series_has_its_place_and_score_in_narrow_tables(cloud: Cloud, record_scan: Push) -> None:
    event = scan_accepted(scan_id="1" * 64, series_id="2" * 64, study_id="3" * 64, slice_position_mm=7.5, plane="axial")
    scored = scan_scored(scan_id="1" * 64, series_id="2" * 64)
    for fact in (event, scored, event, scored):
        assert record_scan(asdict(fact), event=fact.TOPIC) == 200
    (row,) = bigquery.query("SELECT * FROM {dataset}.series_slices WHERE series_id = @id", id="2" * 64)
    assert (row["slice_position_mm"], row["plane"], row["study_id"]) == (7.5, "axial", "3" * 64)
    (row,) = bigquery.query("SELECT * FROM {dataset}.slice_scores WHERE series_id = @id", id="2" * 64)
    assert (row["probability"], row["model_version"]) == (scored.probability, scored.model_version)


def test_same_slice_belongs_to_each_of_its_series(cloud: Cloud, record_scan: Push) -> None:
    for series_id in ("4" * 64, "5" * 64):
        event = scan_accepted(scan_id="6" * 64, series_id=series_id)
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT series_id FROM {dataset}.series_slices WHERE scan_id = @id", id="6" * 64)
    assert {row["series_id"] for row in rows} == {"4" * 64, "5" * 64}


def test_scan_of_no_series_is_in_neither(cloud: Cloud, record_scan: Push) -> None:
    for fact in (scan_accepted(scan_id="7" * 64), scan_scored(scan_id="7" * 64)):
        assert record_scan(asdict(fact), event=fact.TOPIC) == 200
    for table in ("series_slices", "slice_scores"):
        assert not bigquery.query(f"SELECT 1 FROM {{dataset}}.{table} WHERE scan_id = @id", id="7" * 64)


def test_series_is_one_row_a_revision(cloud: Cloud, record_scan: Push) -> None:
    answer = summarised([b"slice"])
    for event in (answer, answer, replace(answer, revision="f" * 64, previous_revision=answer.revision)):
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT * FROM {dataset}.series WHERE series_id = @id", id=answer.series_id)
    assert {row["revision"] for row in rows} == {"e" * 64, "f" * 64}
    assert rows[0]["suspicious_scan_ids"] == [answer.suspicious[0].scan_id]


def test_message_that_is_no_event_of_ours_is_retried(cloud: Cloud, record_scan: Push) -> None:
    assert record_scan({"hello": "world"}, event="something-else") == 500
