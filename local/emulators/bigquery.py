"""The BigQuery stand-in as a process: local-bigquery with its DuckDB extensions installed from their wheels."""

import argparse
import os
import threading
import time
from pathlib import Path

_EXTENSIONS = ("icu", "ducklake", "httpfs", "spatial")
_PAGE = 20_000
"""Rows of the longest answer that its reader has had at once: a longer one is read page by page, and is kept."""


def main() -> None:
    """Install the extensions under a home of our own, then become the server."""
    parser = argparse.ArgumentParser(prog="python -m local.emulators.bigquery", description=__doc__)
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

    for extension in _EXTENSIONS:
        import_extension(extension)
    threading.Thread(target=_sweep_on, args=(arguments.sweep_s,), daemon=True).start()
    command = ["--host", "127.0.0.1", "--port", str(arguments.port), "--grpc-port", str(arguments.grpc_port)]
    cli.main([*command, "--data-dir", str(arguments.data_dir / "data"), "serve"])


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
        "SELECT table_name FROM duckdb_tables() "
        "WHERE database_name = 'emulator' AND schema_name = ? AND estimated_size <= ?",
        [RESULTS, _PAGE],
    )
    present = {name for (name,) in found}
    for name in present & seen:
        database.execute(f"DROP TABLE IF EXISTS {database.quote('emulator', RESULTS, name)}")
    return present - seen


if __name__ == "__main__":
    main()
