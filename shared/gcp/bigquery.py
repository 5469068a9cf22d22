"""BigQuery: rows appended in groups, queries read."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from itertools import batched
from typing import Any

from google.api_core.exceptions import GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests import RequestException

from shared import config
from shared.clock import now

Row = Mapping[str, Any]

_TYPES = {bool: "BOOL", int: "INT64", float: "FLOAT64", str: "STRING", datetime: "TIMESTAMP", date: "DATE"}
_MAX_GROUP = 500
"""Rows of one insertAll request, as its documentation advises."""
_GATHER_S = 0.5
"""How long rows gather when the last group held several: a request costs the same whatever it holds."""
_MAX_URIS = 10_000
"""Of one load job, which is BigQuery's own limit."""
_PATIENCE_S = 15
"""The client's own is ten minutes, far longer than a person or a push subscription waits."""
_RETRY = bigquery.DEFAULT_RETRY.with_timeout(_PATIENCE_S)


class BigQueryError(Exception):
    """BigQuery could not be reached or did not accept the call."""


class InsertError(BigQueryError):
    """BigQuery refused a row. Says which columns and why, never the row."""


@cache
def client() -> bigquery.Client:
    """The process's one client, made at first use; BIGQUERY_EMULATOR_HOST points it at a stand-in, without a login."""
    credentials = AnonymousCredentials() if "BIGQUERY_EMULATOR_HOST" in os.environ else None
    return bigquery.Client(project=config.project(), credentials=credentials)


def append(table: str, row: Row, key: str) -> None:
    """Append a row to `<table>_raw` under its key, stamped `recorded_at`; returns once it is stored.

    Rows of concurrent calls travel in one request: while one is under way the next group gathers, and in a crowd a
    moment longer, so a lone row waits for nobody and a crowd shares the cost. Raises BigQueryError: let it propagate,
    so that the push is delivered again.
    """
    _group(f"{config.project()}.{config.dataset()}.{table}_raw")(dict(row, recorded_at=now()), key)


def query(sql: str, **parameters: str | float | bool | datetime | date | list[str]) -> list[dict[str, Any]]:
    """Rows of a query; values travel as parameters (`@name`), never inside the SQL. `{dataset}` names our dataset.

    Raises BigQueryError.
    """
    job_config = bigquery.QueryJobConfig(query_parameters=[_parameter(*item) for item in parameters.items()])
    with _answering():
        rows = client().query_and_wait(
            sql.replace("{dataset}", config.dataset()),
            job_config=job_config,
            api_timeout=_PATIENCE_S,
            wait_timeout=_PATIENCE_S,
            retry=_RETRY,
            job_retry=None,
        )
        return [dict(row) for row in rows]


def load(table: str, uris: Iterable[str]) -> int:
    """Append Parquet objects (`gs://...`) to `<table>_raw` by load jobs; answers the number of rows.

    The columns are the table's own, `recorded_at` included. Raises BigQueryError.
    """
    options = bigquery.ParquetOptions()
    options.enable_list_inference = True
    job_config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        parquet_options=options,
    )
    destination = f"{config.project()}.{config.dataset()}.{table}_raw"
    with _answering():
        jobs = [
            client().load_table_from_uri(group, destination, job_config=job_config)
            for group in batched(uris, _MAX_URIS, strict=False)
        ]
        return sum(job.result().output_rows for job in jobs)


class _Group:
    """Group commit: one writer a table, which sends all rows that gathered while it sent the last ones."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[dict[str, Any], str, Future[None]]] = []
        self._crowded = False

    def __call__(self, row: dict[str, Any], key: str) -> None:
        stored: Future[None] = Future()
        self._waiting.append((row, key, stored))
        self._writer.submit(self._write)
        stored.result()

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._crowded:
            time.sleep(_GATHER_S)
        group = self._waiting[:_MAX_GROUP]
        del self._waiting[: len(group)]  # others only ever add behind it
        self._crowded = len(group) > 1
        rows, keys, stored = zip(*group, strict=True)
        try:
            with _answering():
                refused = client().insert_rows_json(
                    self._table, rows, row_ids=keys, skip_invalid_rows=True, retry=_RETRY, timeout=_PATIENCE_S
                )
        except BaseException as error:
            for future in stored:
                future.set_exception(error)
            raise
        reasons = {refusal["index"]: refusal["errors"] for refusal in refused}
        for index, future in enumerate(stored):
            future.set_exception(_refusal(reasons[index])) if index in reasons else future.set_result(None)


def _refusal(errors: list[dict[str, str]]) -> InsertError:
    return InsertError("; ".join(f"{error['location']}: {error['reason']}" for error in errors))


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, RequestException, TimeoutError) as error:
        raise BigQueryError(f"BigQuery did not answer: {type(error).__name__}") from error


@cache
def _group(table: str) -> _Group:
    return _Group(table)


def _parameter(name: str, value: Any) -> bigquery.ArrayQueryParameter | bigquery.ScalarQueryParameter:  # noqa: ANN401
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, _TYPES[type(value)], value)
