"""What was recorded lately is what the views say, and is all that is read."""

from datetime import timedelta

import pytest

from local.stack.system import Stack
from local.stack.terraform_config import declared, kept
from shared.gcp import bigquery, recent
from tests.dashboard.conftest import NOW, record_prediction, record_scan


@pytest.mark.parametrize("table", recent.KEYS)
def test_a_table_has_the_key_and_the_order_that_terraform_gives_its_view(table: str) -> None:
    settings = declared()["tables"][table]
    assert recent.KEYS[table] == (", ".join(settings["key"]), settings["said_at"])
    assert kept(table) == " AND ".join(["TRUE", *([recent.KEPT[table]] if table in recent.KEPT else [])])


@pytest.mark.parametrize("table", ["scans", "predictions"])
def test_recent_rows_are_those_of_the_view_whatever_was_delivered_twice(stack: Stack, source: str, table: str) -> None:
    scan_ids = [record_scan(source, place, 0.4) for place in range(2)]
    record_prediction(scan_ids[0], 0.9, (NOW + timedelta(hours=1)).isoformat())
    sql = "SELECT * FROM {} WHERE scan_id IN UNNEST(@scan_ids) ORDER BY scan_id"
    view = bigquery.query(sql.format(f"`{{dataset}}.{table}`"), scan_ids=scan_ids)
    assert recent.query(sql.format(f"{{recent {table}}}"), recent.EVER, scan_ids=scan_ids) == view
    assert len(view) == 2


def test_the_latest_prediction_of_a_scan_is_that_of_whichever_release_spoke_last(stack: Stack, source: str) -> None:
    scan_id = record_scan(source, 0, 0.4)
    record_prediction(scan_id, 0.9, (NOW + timedelta(hours=1)).isoformat(), "test-2")
    record_prediction(scan_id, 0.1, (NOW + timedelta(minutes=30)).isoformat(), "test-3")
    sql = "SELECT model_version FROM {recent predictions by scan_id} WHERE scan_id = @scan_id"
    assert recent.query(sql, recent.EVER, scan_id=scan_id) == [{"model_version": "test-2"}]


def test_the_scans_of_a_subquery_are_looked_up_alone(stack: Stack, source: str) -> None:
    scan_ids = [record_scan(source, place, 0.4) for place in range(2)]
    sql = """
    WITH page AS (SELECT scan_id FROM {recent scans} WHERE scan_id = @one)
    SELECT scan_id FROM {recent predictions by scan_id in page}
    """
    assert recent.query(sql, recent.EVER, one=scan_ids[1]) == [{"scan_id": scan_ids[1]}]


def test_rows_recorded_earlier_are_not_read(stack: Stack, source: str) -> None:
    scan_id = record_scan(source)
    sql = "SELECT scan_id FROM {recent scans} WHERE scan_id = @scan_id"
    assert len(recent.query(sql, recent.back(timedelta(days=1)), scan_id=scan_id)) == 1
    assert recent.query(sql, NOW + timedelta(days=1), scan_id=scan_id) == []
