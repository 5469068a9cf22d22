"""What our launcher adds to the BigQuery stand-in: results of queries do not pile up."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from local.stack.processes import free_port
from tests.support.servers import python, running
from tests.support.waiting import wait_until


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of a stand-in that sweeps all the time."""
    command = python("-m", "local.emulators.bigquery", "--port", "PORT", "--grpc-port", str(free_port()))
    command += ["--data-dir", str(tmp_path / "data"), "--sweep-s", "0.5"]
    with running(command, tmp_path / "log", "/bigquery/v2/projects/p/datasets") as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield bigquery.Client(project="p", credentials=AnonymousCredentials())


def is_kept(client: bigquery.Client, job: bigquery.QueryJob) -> bool:
    try:
        client.get_table(job.destination)
    except NotFound:
        return False
    return True


def test_results_that_were_read_do_not_pile_up_and_long_ones_can_be_read_on(client: bigquery.Client) -> None:
    long = client.query("SELECT * FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS number")
    pages = iter(long.result(page_size=10_000).pages)
    next(pages)
    short = client.query("SELECT 1 AS one")
    assert [row["one"] for row in short.result()] == [1]
    wait_until(lambda: not is_kept(client, short))
    assert sum(page.num_items for page in pages) == 20_000


@pytest.mark.parametrize(
    ("since", "found"),
    [
        (datetime(2026, 1, 1, 12, 0, 0, 1, UTC), [1, 2]),
        (datetime(2026, 1, 1, 14, 0, 0, 2, timezone(timedelta(hours=2))), [2]),
        (None, []),
        (datetime(2027, 1, 1, tzinfo=UTC), []),
    ],
)
def test_rows_are_compared_with_a_time_to_the_microsecond(
    client: bigquery.Client, since: datetime | None, found: list[int]
) -> None:
    sql = """
    WITH seen AS (
      SELECT number, TIMESTAMP_ADD(TIMESTAMP '2026-01-01 12:00:00+00', INTERVAL number MICROSECOND) AS at
      FROM UNNEST(GENERATE_ARRAY(0, 9)) AS number)
    SELECT number, at, [number, number] AS twice FROM seen WHERE at >= @since AND number < @below ORDER BY number
    """
    asked = [("since", "TIMESTAMP", since), ("below", "INT64", 3)]
    config = bigquery.QueryJobConfig(
        query_parameters=[bigquery.ScalarQueryParameter(name, kind, value) for name, kind, value in asked]
    )
    rows = list(client.query_and_wait(sql, job_config=config))
    assert [row["number"] for row in rows] == found
    assert [(row["at"].microsecond, row["twice"]) for row in rows] == [(number, [number] * 2) for number in found]
