"""What our launcher changes in the BigQuery stand-in: results do not pile up, and a table is known as it is now."""

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


def test_a_table_is_known_as_it_is_now(client: bigquery.Client) -> None:
    client.create_dataset("p.d")
    text = bigquery.SchemaField("text", "STRING", "REQUIRED")
    client.create_table(bigquery.Table("p.d.t", [text]))
    with pytest.raises(NotFound):
        client.insert_rows_json("p.d.other", [{"text": "a"}])

    assert client.insert_rows_json("p.d.t", [{"text": "a", "number": 1}])  # no such column yet
    client.query_and_wait("ALTER TABLE p.d.t ADD COLUMN number INT64")
    assert client.insert_rows_json("p.d.t", [{"text": "b", "number": 2}]) == []
    assert client.insert_rows_json("p.d.t", [{"number": 3}])  # still required
    client.query_and_wait("ALTER TABLE p.d.t ALTER COLUMN text DROP NOT NULL")
    assert client.insert_rows_json("p.d.t", [{"number": 4}]) == []

    client.query_and_wait("CREATE VIEW d.v AS SELECT number FROM p.d.t")
    assert [row["number"] for row in client.query_and_wait("SELECT * FROM p.d.v ORDER BY number")] == [2, 4]
    assert {table.table_id: table.table_type for table in client.list_tables("p.d")} == {"t": "TABLE", "v": "VIEW"}
    client.query_and_wait("DROP VIEW d.v")
    client.delete_table("p.d.t")
    with pytest.raises(NotFound):
        client.insert_rows_json("p.d.t", [{"text": "c"}])
    assert list(client.list_tables("p.d")) == []
    client.create_table(bigquery.Table("p.d.t", [text]))
    assert client.insert_rows_json("p.d.t", [{"text": "d"}]) == []
