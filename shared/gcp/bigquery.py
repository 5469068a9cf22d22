"""BigQuery: rows appended in groups, queries read."""

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from itertools import batched
from threading import Condition
from typing import Any, NamedTuple

from google.api_core.exceptions import ClientError, Conflict, GoogleAPIError
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
_GATHER_S = 0.2
"""How long a group gathers at most, until it holds as many rows as the largest of the last few: a request costs the
same whatever it holds, and callers whose rows have just been stored are about to come back."""
_LAST_GROUPS = 5
"""With the last group alone, each small one makes its successors small."""
_STORED_WITHIN_S = 50
"""Two groups and their retries; then the caller's message is delivered again rather than its thread lost."""
_REFUSED_WHOLE = {400, 413}
"""Status of a request that one row of it may have spoilt: NaN, or more bytes than a request may have."""
_MAX_URIS = 10_000
"""Of one load job, which is BigQuery's own limit."""
_PAGE = 20_000
"""Rows of a streamed query in one answer."""
_JOB_S = 600
"""Patience with a query that a job asks."""

SENT = "IFNULL(source, '') != 'synthetic'"
"""Condition of rows of scans that check_pipeline did not send itself."""
GIVEN = "IFNULL(role, 'champion') != 'challenger'"
"""Condition of predictions that somebody was given. The views keep rows by both (terraform/bigquery.tf)."""

MAX_BYTES_BILLED = 32 * 2**30
"""Of one query, 20 cents at list price: BigQuery refuses one that would read more, before it reads anything."""
_DELETE_BYTES, _DELETE_S = 2**40, 600
"""A deletion reads its whole table: 70 GB of features at ten million scans."""
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
    anonymous = "BIGQUERY_EMULATOR_HOST" in os.environ
    credentials = AnonymousCredentials() if anonymous else None  # type: ignore[no-untyped-call]
    return bigquery.Client(project=config.project(), credentials=credentials)


def append(table: str, row: Row, key: str) -> None:
    """Append a row to `<table>_raw` under its key, stamped `recorded_at`; returns once it is stored.

    Rows of concurrent calls travel in one request: while one is under way the next group gathers, until it is as large
    as the last one or a moment has passed, so a lone row waits for nobody and a crowd shares the cost.
    Raises BigQueryError: let it propagate, so that the push is delivered again.
    """
    with _answering():
        _group(f"{config.project()}.{config.dataset()}.{table}_raw")(dict(row, recorded_at=now()), key)


def query(sql: str, **parameters: str | float | bool | datetime | date | list[str]) -> list[Row]:
    """Rows of a query; values travel as parameters (`@name`), never inside the SQL.

    `{dataset}` names our dataset; `{sent}` and `{given}` stand for SENT and GIVEN. Raises BigQueryError.
    """
    return _run(sql, parameters, MAX_BYTES_BILLED, _PATIENCE_S)


def _run(sql: str, parameters: Mapping[str, Any], max_bytes: int, patience_s: float) -> list[Row]:
    job_config = bigquery.QueryJobConfig(
        query_parameters=[_parameter(*item) for item in parameters.items()], maximum_bytes_billed=max_bytes
    )
    with _answering():
        rows = client().query_and_wait(
            _written_out(sql),
            job_config=job_config,
            api_timeout=patience_s,
            wait_timeout=patience_s,
            retry=_RETRY,
            job_retry=None,  # type: ignore[arg-type] # None is documented: the query is not sent again
        )
        return [dict(row) for row in rows]


def _written_out(sql: str) -> str:
    return sql.replace("{dataset}", config.dataset()).replace("{sent}", SENT).replace("{given}", GIVEN)


def stream(sql: str, **parameters: str | float | bool | datetime | date | list[str]) -> Iterator[Any]:
    """Yield rows of a query of any length, a page in memory at a time. Raises BigQueryError.

    For jobs, not for people: it waits ten minutes.
    """
    job_config = bigquery.QueryJobConfig(
        query_parameters=[_parameter(*item) for item in parameters.items()], maximum_bytes_billed=MAX_BYTES_BILLED
    )
    with _answering():
        yield from client().query_and_wait(
            _written_out(sql), job_config=job_config, page_size=_PAGE, wait_timeout=_JOB_S
        )


def raw_tables() -> dict[str, dict[str, bool]]:
    """Return every table of the dataset, without `_raw`, and of each column whether it holds a list.

    Raises BigQueryError.
    """
    with _answering():
        found = [table for table in client().list_tables(config.dataset()) if table.table_id.endswith("_raw")]
        tables = [client().get_table(table.reference) for table in found]
    return {
        table.table_id.removesuffix("_raw"): {column.name: column.mode == "REPEATED" for column in table.schema}
        for table in tables
    }


def count(table: str, condition: str, **parameters: str | list[str]) -> int:
    """Return how many rows of `<table>_raw` meet a condition, duplicates included. Raises BigQueryError."""
    sql = f"SELECT COUNT(*) AS rows_found FROM {{dataset}}.{table}_raw WHERE {condition}"  # noqa: S608
    return int(query(sql, **parameters)[0]["rows_found"])


def delete(table: str, condition: str, **parameters: str | list[str]) -> None:
    """Delete the rows of `<table>_raw` that meet a condition, a part of the program.

    Raises BigQueryError, also while rows are so new that BigQuery does not let them be deleted.
    """
    _run(f"DELETE FROM {{dataset}}.{table}_raw WHERE {condition}", parameters, _DELETE_BYTES, _DELETE_S)  # noqa: S608


def load(table: str, uris: Iterable[str]) -> int:
    """Append Parquet objects (`gs://...`) to `<table>_raw` by load jobs; return the number of rows.

    The columns are the table's own, `recorded_at` included. Objects are loaded once, however often they are asked for
    together: a job's id is made of their names. Raises BigQueryError.
    """
    destination = f"{config.project()}.{config.dataset()}.{table}_raw"
    with _answering():
        jobs = [_load_job(destination, group) for group in batched(sorted(uris), _MAX_URIS, strict=False)]
        return sum(job.result().output_rows for job in jobs)  # type: ignore[attr-defined] # of a load job


def _load_job(destination: str, uris: Sequence[str]) -> bigquery.LoadJob:
    """Return the job that loads these objects: a new one, or the earlier one that did or still does."""
    digest = hashlib.sha256("\n".join([destination, *uris]).encode()).hexdigest()[:32]
    for attempt in itertools.count(1):
        job_id = f"load-{digest}-{attempt}"
        try:
            return client().load_table_from_uri(uris, destination, job_id=job_id, job_config=_load_config())
        except Conflict:
            earlier = client().get_job(job_id)
            if not earlier.error_result:
                return earlier  # type: ignore[return-value] # its id is a load job's
    raise AssertionError("unreachable")


def _load_config() -> bigquery.LoadJobConfig:
    options = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
    options.enable_list_inference = True
    return bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,  # the other asks for the right to create tables
        parquet_options=options,
    )


class _Waiting(NamedTuple):
    """A row whose caller waits until it is stored."""

    row: dict[str, Any]
    key: str
    stored: Future[None]


class _Group:
    """Group commit: one writer per table, which sends all rows that gathered while it sent the last ones."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._arrived = Condition()
        self._waiting: list[_Waiting] = []
        self._sizes: deque[int] = deque(maxlen=_LAST_GROUPS)

    def __call__(self, row: dict[str, Any], key: str) -> None:
        """Store a row. Raises BigQueryError, TimeoutError."""
        waiting = _Waiting(row, key, Future())
        with self._arrived:
            self._waiting.append(waiting)
            self._arrived.notify()
        self._writer.submit(self._write)
        waiting.stored.result(_STORED_WITHIN_S)

    def _write(self) -> None:
        if not self._waiting:
            return
        with self._arrived:
            expected = max(self._sizes, default=1)
            self._arrived.wait_for(lambda: len(self._waiting) >= expected, _GATHER_S)
            group = self._waiting[:_MAX_GROUP]
            del self._waiting[: len(group)]
        if len(group) == 1:  # the crowd is gone
            self._sizes.clear()
        else:
            self._sizes.append(len(group))
        try:
            self._store(group)
        except BaseException as error:
            for waiting in group:
                if not waiting.stored.done():
                    waiting.stored.set_exception(error)
            raise

    def _store(self, group: list[_Waiting]) -> None:
        try:
            refused = self._insert(group)
        except ClientError as error:
            if error.code not in _REFUSED_WHOLE:
                raise BigQueryError(f"BigQuery did not accept rows: {type(error).__name__}") from error
            if len(group) == 1:
                group[0].stored.set_exception(InsertError(f"BigQuery cannot read the row: {error.code}"))
                return
            for waiting in group:  # one of them spoils the request: let it fail alone
                self._store([waiting])
            return
        reasons = {refusal["index"]: refusal.get("errors", []) for refusal in refused}
        for index, waiting in enumerate(group):
            if index in reasons:
                waiting.stored.set_exception(_refusal(reasons[index]))
            else:
                waiting.stored.set_result(None)

    def _insert(self, group: list[_Waiting]) -> Sequence[dict[str, Any]]:
        rows, keys = [waiting.row for waiting in group], [waiting.key for waiting in group]
        try:
            return client().insert_rows_json(
                self._table,
                rows,
                row_ids=keys,
                skip_invalid_rows=True,
                ignore_unknown_values=True,  # a function may go before its new column, which takes minutes to be known
                retry=_RETRY,
                timeout=_PATIENCE_S,
            )
        except ClientError:
            raise
        except _FAILURES as error:
            raise BigQueryError(f"BigQuery did not answer: {type(error).__name__}") from error


def _refusal(errors: list[dict[str, str]]) -> InsertError:
    reasons = (f"{error.get('location') or 'row'}: {error.get('reason', 'refused')}" for error in errors)
    return InsertError("; ".join(reasons) or "row: refused")


_FAILURES = (GoogleAPIError, GoogleAuthError, RequestException, TimeoutError)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise BigQueryError(f"BigQuery did not answer: {type(error).__name__}") from error


@cache
def _group(table: str) -> _Group:
    return _Group(table)


def _parameter(name: str, value: Any) -> bigquery.ArrayQueryParameter | bigquery.ScalarQueryParameter:  # noqa: ANN401
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, _TYPES[type(value)], value)
