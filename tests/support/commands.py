"""What a command says to `--help`, asked in a fork of one process that has loaded what most commands import.

An interpreter of its own for each of some fifty commands would take minutes.
"""

import io
import multiprocessing
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("pytest", __name__),
        *("google.cloud.bigquery", "google.cloud.pubsub_v1", "google.cloud.storage"),
        *("cv2", "nibabel", "numpy", "pandas", "pyarrow.parquet", "pydicom", "requests", "rich.console", "tifffile"),
    ]
)
_SLOW = {"keras", "tensorflow"}
"""Packages that take seconds to load, of which nobody who asks for help needs any."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: str
    errors: str
    loaded: frozenset[str]
    """Slow packages that it loaded."""


def asked_for_help(module: str) -> Ended:
    """Return how `python -m MODULE --help` ends."""
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_help, args=(module, theirs))
    process.start()
    theirs.close()
    try:
        ended: Ended = ours.recv()
    finally:
        process.join()
    return ended


def _help(module: str, pipe: Connection) -> None:
    sys.argv = [module, "--help"]
    output, errors = io.StringIO(), io.StringIO()
    status = 0
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except ImportError as error:
            status = 1
            print(error, file=errors)
    pipe.send(Ended(status, output.getvalue(), errors.getvalue(), frozenset(_SLOW & sys.modules.keys())))
