"""Run Scanflow beside a hospital's systems: `make hospital`. A sample study goes from the PACS through it and back."""

import argparse
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from local.hospital import study
from local.hospital.counterparts import Hospital, hospital
from local.hospital.tools import Unavailable, fetch, missing
from local.hospital.visit import Visit
from local.stack.processes import StackError, free_port
from local.stack.signals import interrupted, stop_on_signals
from local.stack.system import Options, Stack, running, supervised
from local.stack.terraform_config import ROOT

DIRECTORY = ROOT / ".local"
_GATEWAY_TITLE = "SCANFLOW"
_QUIET_SECONDS = "5"


def main() -> int:
    """Send a sample study from the PACS, wait for what comes back, and say where to look."""
    parser = argparse.ArgumentParser(prog="make hospital", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop at the end; exit 1 unless everything arrived")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where state and logs are kept")
    arguments = parser.parse_args()
    console = Console()
    stop_on_signals()
    try:
        fetch_missing(console)
        console.print("Starting a hospital's systems, and Scanflow beside them.")
        with beside_a_hospital(arguments.directory) as (stack, systems):
            complete = _visit(stack, systems, console)
            if not arguments.once:
                console.print("For research use, not a medical device. Ctrl-C stops everything.")
                threading.Event().wait()
    except (StackError, Unavailable) as problem:
        console.print(str(problem))
        return 1
    except KeyboardInterrupt:
        interrupted()
        console.print("Stopped.")
        return 0
    return 0 if complete else 1


def fetch_missing(console: Console) -> None:
    """Fetch the counterparts that are not here yet. Raises Unavailable."""
    if names := missing():
        console.print(f"Fetching {', '.join(names)} into .local/tools; this happens once.")
        fetch()


@contextmanager
def beside_a_hospital(directory: Path = DIRECTORY) -> Iterator[tuple[Stack, Hospital]]:
    """Start the hospital's systems, then Scanflow with a gateway that knows them, and its clock.

    The hospital keeps its state in `hospital` under the directory.
    """
    os.environ["DICOM_PORT"] = os.environ.get("DICOM_PORT") or str(free_port())
    os.environ |= {"DICOM_AE_TITLE": _GATEWAY_TITLE, "SERIES_QUIET_SECONDS": _QUIET_SECONDS}
    systems = hospital(directory / "hospital", _GATEWAY_TITLE, int(os.environ["DICOM_PORT"]))
    os.environ |= systems.gateway_environment()
    with supervised(directory / "hospital") as supervisor:
        supervisor.start(systems.services)
        with running(directory, Options(schedule_speed=1)) as stack:
            yield stack, systems


def _visit(stack: Stack, systems: Hospital, console: Console) -> bool:
    """Send the sample study and follow it; returns whether everything came back."""
    name = datetime.now(UTC).strftime("%m%d%H%M%S")
    visit = Visit(systems, study.study_uid(name))
    slices = study.series(study.with_lesion(), name, datetime.now(UTC))
    visit.acquire(slices)
    console.print(f"{len(slices)} slices are in the PACS; it sends them to the gateway by C-STORE.")
    visit.send()
    arrived = visit.wait(console)
    for what, where in {**visit.where_to_look(), "dashboard": stack.url("dashboard")}.items():
        console.print(f"{what:36}{where}", soft_wrap=True)  # whole, to be opened from the terminal
    console.print("Everything arrived." if arrived else "Not everything arrived; logs are in .local/logs.")
    return arrived


if __name__ == "__main__":
    sys.exit(main())
