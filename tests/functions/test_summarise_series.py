"""summarise_series: one answer for a series that is quiet and complete, the same however often it is called."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient

from shared.gcp import bigquery
from tests.functions.conftest import Cloud, Push, client, push
from tests.support.events import scan_accepted, scan_scored

TABLES = ("scans", "series_slices", "slice_scores", "series")


@pytest.fixture(scope="module")
def record_scan(cloud: Cloud) -> Push:
    return push("record_scan")


@pytest.fixture
def summarise(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setenv("SERIES_QUIET_SECONDS", "0")
    served = client("summarise_series", "http")
    served.application.config["PROPAGATE_EXCEPTIONS"] = False
    yield served
    cloud.pull("series-summarised")


def record(record_scan: Push, series: str, slices: range, scored: int, **changes: object) -> None:
    for number in slices:
        scan_id = f"{series[0]}{number:063d}"
        facts = {"scan_id": scan_id, "series_id": series}
        name = f"Cancer/{scan_id}.png"
        accepted = scan_accepted(**facts, name=name, slice_position_mm=5.0 * number, plane="axial", source="gateway")
        assert record_scan(asdict(accepted), event=accepted.TOPIC) == 200
        if number < scored:
            score = scan_scored(**facts, **changes)
            assert record_scan(asdict(score), event=score.TOPIC) == 200


def test_complete_series_is_summarised_and_said_once(cloud: Cloud, record_scan: Push, summarise: FlaskClient) -> None:
    record(record_scan, "b" * 64, range(5), 5)
    assert summarise.post("/").json == {"summarised": 1}
    (event,) = cloud.pull("series-summarised")
    assert (event["series_id"], event["scored"], event["accepted"], event["source"]) == ("b" * 64, 5, 5, "gateway")
    # A crash before the row is written: the same event again, with the same revision.
    assert summarise.post("/").json == {"summarised": 1}
    assert cloud.pull("series-summarised") == [event]
    assert record_scan(event, event="series-summarised") == 200
    assert summarise.post("/").json == {"summarised": 0}


def test_late_slice_makes_a_revision(cloud: Cloud, record_scan: Push, summarise: FlaskClient) -> None:
    record(record_scan, "c" * 64, range(4), 4)
    summarise.post("/")
    (first,) = cloud.pull("series-summarised")
    assert record_scan(first, event="series-summarised") == 200
    record(record_scan, "c" * 64, range(4, 5), 5)
    summarise.post("/")
    (second,) = cloud.pull("series-summarised")
    assert second["previous_revision"] == first["revision"]
    assert second["scored"] == 5


def aged(series: str, hours: int) -> None:
    """Make what is recorded of a series so much older."""
    for table in TABLES[1:]:
        bigquery._run(
            f"UPDATE {{dataset}}.{table}_raw SET recorded_at = TIMESTAMP_SUB(recorded_at, INTERVAL {hours} HOUR) "
            "WHERE series_id = @id",
            {"id": series},
            bigquery.MAX_BYTES_BILLED,
            60,
        )


def test_slice_that_comes_the_next_day_is_answered_with_those_of_before(
    cloud: Cloud, record_scan: Push, summarise: FlaskClient
) -> None:
    record(record_scan, "7" * 64, range(4), 4)
    summarise.post("/")
    (first,) = [event for event in cloud.pull("series-summarised") if event["series_id"] == "7" * 64]
    assert record_scan(first, event="series-summarised") == 200
    aged("7" * 64, 24)
    record(record_scan, "7" * 64, range(4, 5), 5)
    summarise.post("/")
    (second,) = [event for event in cloud.pull("series-summarised") if event["series_id"] == "7" * 64]
    assert (second["scored"], second["previous_revision"]) == (5, first["revision"])


def test_slices_that_are_scored_the_next_day_are_answered(
    cloud: Cloud, record_scan: Push, summarise: FlaskClient
) -> None:
    """Their scores were dead-letter messages, say, and were replayed."""
    record(record_scan, "8" * 64, range(3), 0)
    aged("8" * 64, 24)
    for number in range(3):
        score = scan_scored(scan_id=f"8{number:063d}", series_id="8" * 64)
        assert record_scan(asdict(score), event=score.TOPIC) == 200
    summarise.post("/")
    (event,) = [event for event in cloud.pull("series-summarised") if event["series_id"] == "8" * 64]
    assert (event["scored"], event["accepted"]) == (3, 3)


def test_a_call_reads_hours_and_not_the_months_that_are_kept(
    cloud: Cloud, record_scan: Push, summarise: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigQuery bills what a query reads: of ten million scans a month all slices and scores are 17 GB, answers 0.2."""
    asked: list[tuple[str, timedelta]] = []
    query = bigquery.query

    def seen(sql: str, **parameters: object) -> list:
        asked.append((sql, datetime.now(UTC) - parameters["since"]))
        return query(sql, **parameters)

    record(record_scan, "6" * 64, range(2), 2)
    aged("7" * 64, 24)
    aged("8" * 64, 24)
    monkeypatch.setattr(bigquery, "query", seen)
    summarise.post("/")
    assert len(asked) == 5
    assert all("recorded_at >= @since" in sql for sql, _ in asked)
    (long,) = [sql for sql, span in asked if span > timedelta(hours=7)]
    assert long.split()[:6] == ["SELECT", "DISTINCT", "series_id", "FROM", "{dataset}.series_raw", "WHERE"]


def test_incomplete_series_waits(cloud: Cloud, record_scan: Push, summarise: FlaskClient) -> None:
    record(record_scan, "d" * 64, range(5), 4)
    summarise.post("/")
    assert "d" * 64 not in {event["series_id"] for event in cloud.pull("series-summarised")}


def test_series_that_is_not_quiet_waits(
    cloud: Cloud, record_scan: Push, summarise: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERIES_QUIET_SECONDS", "3000")
    record(record_scan, "e" * 64, range(2), 2)
    assert summarise.post("/").json == {"summarised": 0}


def test_series_whose_rows_make_no_sense_stops_no_other(
    cloud: Cloud, record_scan: Push, summarise: FlaskClient
) -> None:
    record(record_scan, "0" * 64, range(2), 2, probability=7.0)
    record(record_scan, "f" * 64, range(2), 2)
    assert summarise.post("/").status_code == 500
    assert "f" * 64 in {event["series_id"] for event in cloud.pull("series-summarised")}
    bad = bigquery.query("SELECT COUNT(*) AS n FROM {dataset}.series WHERE series_id = @id", id="0" * 64)
    assert bad == [{"n": 0}]
