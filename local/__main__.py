"""Run Scanflow on this machine: `make demo`."""

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from local import demo
from local.demo import Upload
from local.stack.processes import StackError
from local.stack.signals import interrupted, stop_on_signals
from local.stack.system import Options, Stack, running
from local.stack.terraform_config import ROOT

DIRECTORY = ROOT / ".local"
SCHEDULE_SPEED = 20
"""What is scheduled every hour happens every three minutes."""


def main() -> int:
    """Start the system, upload scans, show what became of each; stay up until Ctrl-C, or end at once with --once.

    Exit status: 0 if every file ended where it should, 1 if one did not or the system could not start, 2 for arguments
    that cannot be used.
    """
    arguments = _arguments()
    console = Console()
    uploads = demo.folder_uploads(arguments.data, arguments.limit) if arguments.data else demo.sample_uploads()
    if not uploads:
        console.print(f"There is no file under {arguments.data}. Name a folder that holds scans.")
        return 2
    stop_on_signals()
    try:
        console.print(f"Starting Scanflow; logs are in {_shown(arguments.directory)}/logs", soft_wrap=True)
        with running(arguments.directory, Options(schedule_speed=SCHEDULE_SPEED)) as stack:
            _print_addresses(stack, console)
            ended_well = _follow(uploads, console)
            if not arguments.once:
                console.print("Ctrl-C stops everything.")
                threading.Event().wait()
    except StackError as error:
        console.print(str(error), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        interrupted()
        console.print("Stopped. `make demo` goes on from here, `make clean` deletes local state.")
        return 0
    return 0 if ended_well else 1


def _shown(directory: Path) -> Path:
    """Return the folder as a person in the repository would write it."""
    return directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory


def _print_addresses(stack: Stack, console: Console) -> None:
    console.print(f"Dashboard  {stack.url('dashboard')}", soft_wrap=True)
    console.print(f"REST API   {stack.url('inference')}/docs", soft_wrap=True)
    console.print("For research use, not a medical device.")


def _follow(uploads: Sequence[Upload], console: Console) -> bool:
    outcomes = demo.run(uploads, console)
    console.print(demo.table(outcomes))
    expected = sum(outcome.is_expected for outcome in outcomes)
    console.print(f"{expected} of {len(outcomes)} files ended where they should.")
    return expected == len(outcomes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=demo.folder, help="folder of scans to upload instead of the samples")
    parser.add_argument("--limit", type=demo.positive, help="upload so many of them, spread evenly")
    parser.add_argument("--once", action="store_true", help="stop when every scan has ended; exit 1 if one went astray")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where state and logs are kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
