"""What our launcher adds to the BigQuery stand-in: results of queries do not pile up."""

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
