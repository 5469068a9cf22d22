"""record_scan: one row a fact, however often and in whatever order it arrives."""

from dataclasses import asdict

import pytest

from local.samples import encode, healthy_slices
from shared.events import ScanRejected
from shared.gcp import bigquery
from tests.functions.conftest import Cloud, Push, push
from tests.support.events import stored_scan


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


def test_message_that_is_no_event_of_ours_is_retried(cloud: Cloud, record_scan: Push) -> None:
    assert record_scan({"hello": "world"}, event="something-else") == 500
