"""The BigQuery stand-in as a process: local-bigquery with its DuckDB extensions installed from their wheels.

local-bigquery looks through its tables several times in each call. Where DuckDB takes long for that, it is spared: the
statements below are what `tests/local/emulators/test_bigquery.py` holds to.
"""

import argparse
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_EXTENSIONS = ("icu", "ducklake", "httpfs", "spatial")
_PAGE = 20_000
"""Rows of the longest answer that its reader has had at once: a longer one is read page by page, and is kept."""

_SETTINGS = (
    # Several threads spend more processor time on sharing such small queries than on answering them.
    "SET threads = 1",
    # DuckDB's own list counts the rows of every DuckLake table, at 2 to 3 ms each; nobody asks how many there are.
    """
    CREATE MACRO duckdb_tables() AS TABLE
    SELECT DISTINCT database_name, schema_name, table_name, database_name = 'temp' AS temporary, 0 AS estimated_size
    FROM duckdb_columns()
    WHERE (database_name, schema_name, table_name) NOT IN
      (SELECT (database_name, schema_name, view_name) FROM duckdb_views())
    """,
)


def main() -> None:
    """Install the extensions under a home of our own, then become the server."""
    parser = argparse.ArgumentParser(prog="python -m local.emulators.bigquery", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--sweep-s", type=float, default=60, help="how long the results of a query are kept at least")
    arguments = parser.parse_args()
    home = arguments.data_dir.resolve() / "home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)  # where DuckDB looks for extensions

    from duckdb_extensions import import_extension  # noqa: PLC0415 - reads HOME when it loads
    from local_bigquery import cli  # noqa: PLC0415 - after HOME, as above
    from local_bigquery.catalog import tabledata, tables  # noqa: PLC0415 - as above
    from local_bigquery.engine import database  # noqa: PLC0415 - as above
    from local_bigquery.settings import settings  # noqa: PLC0415 - as above
    from local_bigquery.sql import params  # noqa: PLC0415 - as above

    from local.emulators.bigquery_catalogue import bound_columns, bound_objects, remembered  # noqa: PLC0415 - as above

    params.bind = _reading_times_once(params.bind)
    tables.write = _running_once(tables.write)
    database.objects = remembered(bound_objects(database.objects))
    tables.columns = tabledata.columns = remembered(bound_columns(tables.columns))
    for extension in _EXTENSIONS:
        import_extension(extension)
    settings.data_dir = arguments.data_dir / "data"
    for statement in _SETTINGS:
        database.execute(statement)
    threading.Thread(target=_sweep_on, args=(arguments.sweep_s,), daemon=True).start()
    command = ["--host", "127.0.0.1", "--port", str(arguments.port), "--grpc-port", str(arguments.grpc_port)]
    cli.main([*command, "--data-dir", str(settings.data_dir), "serve"])


type _Bind = Callable[[list[Any]], tuple[dict[str, str], dict[str, Any]]]
"""From a query's parameters to an expression and a value for each."""


def _reading_times_once(bind: _Bind) -> _Bind:
    """Hand times to DuckDB as times: as text it reads them again for every row that they are compared with."""

    def bound(parameters: list[Any]) -> tuple[dict[str, str], dict[str, Any]]:
        expressions, values = bind(parameters)
        for parameter in parameters:
            if parameter.name in values and parameter.parameterType.type == "TIMESTAMP" and values[parameter.name]:
                with suppress(ValueError):  # a form that only DuckDB knows
                    values[parameter.name] = datetime.fromisoformat(values[parameter.name])
        return expressions, values

    return bound


class _Planner:
    """A cursor that runs nothing for a query of which only the columns are asked for.

    DuckDB plans a query without parameters when it is asked for its columns, and runs one with parameters.
    """

    def __init__(self, cursor: "DuckDBPyConnection", query: str) -> None:
        self._cursor = cursor
        self._query = query

    def sql(self, query: str, params: dict[str, Any] | None = None) -> "DuckDBPyRelation":
        """Return the relation of a query, without its rows if it is the one."""
        asked = f"SELECT * FROM ({query}) LIMIT 0" if params and query == self._query else query  # noqa: S608 - its own
        return self._cursor.sql(asked, params=params)

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)


type _Write[C, **P] = Callable[Concatenate[C, str, P], bool]
"""From a cursor, a query and where its result goes to whether a table was made."""


def _running_once[**P](write: _Write[_Planner, P]) -> "_Write[DuckDBPyConnection, P]":
    """Run a query with parameters once to store its result, and not twice before to learn its columns."""

    def written(cursor: "DuckDBPyConnection", query: str, /, *arguments: P.args, **named: P.kwargs) -> bool:
        return write(_Planner(cursor, query), query, *arguments, **named)

    return written


def _sweep_on(every_s: float) -> None:
    """Drop results that were read, for ever: each query leaves a table, and every later call looks through them all."""
    seen: set[str] = set()
    while True:
        time.sleep(every_s)
        seen = _sweep(seen)


def _sweep(seen: set[str]) -> set[str]:
    """Drop the results of queries that the last sweep saw already; return those that are there now."""
    from local_bigquery.catalog.tables import RESULTS  # noqa: PLC0415 - after HOME is set
    from local_bigquery.engine import database  # noqa: PLC0415 - as above

    found = database.fetch(
        "SELECT table_name FROM system.main.duckdb_tables() "
        "WHERE database_name = 'emulator' AND schema_name = ? AND estimated_size <= ?",
        [RESULTS, _PAGE],
    )
    present = {name for (name,) in found}
    for name in present & seen:
        database.execute(f"DROP TABLE IF EXISTS {database.quote('emulator', RESULTS, name)}")
    return present - seen


if __name__ == "__main__":
    main()
