"""The BigQuery stand-in as a process: local-bigquery with its DuckDB extensions installed from their wheels.

local-bigquery looks through its tables several times in each call. Where DuckDB takes long for that, it is spared: the
statements below are what `tests/local/emulators/test_bigquery.py` holds to.
"""

import argparse
import os
import threading
import time
from pathlib import Path

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
    from local_bigquery.engine import database  # noqa: PLC0415 - as above
    from local_bigquery.settings import settings  # noqa: PLC0415 - as above

    for extension in _EXTENSIONS:
        import_extension(extension)
    settings.data_dir = arguments.data_dir / "data"
    for statement in _SETTINGS:
        database.execute(statement)
    threading.Thread(target=_sweep_on, args=(arguments.sweep_s,), daemon=True).start()
    command = ["--host", "127.0.0.1", "--port", str(arguments.port), "--grpc-port", str(arguments.grpc_port)]
    cli.main([*command, "--data-dir", str(settings.data_dir), "serve"])


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
