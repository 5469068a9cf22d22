"""The BigQuery stand-in as a process: local-bigquery with its DuckDB extensions installed from their wheels."""

import argparse
import os
from pathlib import Path

_EXTENSIONS = ("icu", "ducklake", "httpfs", "spatial")


def main() -> None:
    """Install the extensions under a home of our own, then become the server."""
    parser = argparse.ArgumentParser(prog="python -m local.emulators.bigquery", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    home = arguments.data_dir.resolve() / "home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)  # where DuckDB looks for extensions

    from duckdb_extensions import import_extension  # noqa: PLC0415 - reads HOME when it loads

    for extension in _EXTENSIONS:
        import_extension(extension)
    command = ["local-bigquery", "--host", "127.0.0.1", "--port", str(arguments.port)]
    command += ["--grpc-port", str(arguments.grpc_port), "--data-dir", str(arguments.data_dir / "data"), "serve"]
    os.execvp(command[0], command)  # noqa: S606 - from our own environment


if __name__ == "__main__":
    main()
