"""Run Scanflow on this machine: `make demo`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from rich.console import Console

from local import demo
from local.stack.processes import StackError
from local.stack.system import Stack, running
from local.stack.terraform_config import ROOT


def main() -> int:
    """Start the system, drop scans, show what became of each; stay up until Ctrl-C, or end at once with --once."""
    arguments = _arguments()
    console = Console()
    drops = demo.folder_drops(arguments.data, arguments.limit) if arguments.data else demo.sample_drops()
    if not drops:
        console.print(f"There is no file under {arguments.data}. Name a folder that holds scans.")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        console.print("Starting Scanflow; logs are in .local/logs")
        with running(ROOT / ".local") as stack:
            outcomes = demo.run(drops, console)
            console.print(demo.table(outcomes))
            expected = sum(outcome.is_expected for outcome in outcomes)
            console.print(f"{expected} of {len(outcomes)} files ended where they should.")
            if not arguments.once:
                _stay(stack, console)
    except StackError as error:
        console.print(str(error))
        return 1
    except KeyboardInterrupt:
        console.print("Stopped. `make demo` goes on from here, `make clean` forgets everything.")
        return 0
    return 0 if expected == len(outcomes) else 1


def _stay(stack: Stack, console: Console) -> None:
    console.print(f"Dashboard  {stack.url('dashboard')}")
    console.print(f"REST API   {stack.url('inference')}/docs")
    console.print("For research use, not a medical device. Ctrl-C stops everything.")
    threading.Event().wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=_folder, help="folder of scans to drop instead of the samples")
    parser.add_argument("--limit", type=int, help="drop so many of them, spread evenly")
    parser.add_argument("--once", action="store_true", help="stop when every scan has ended; exit 1 if one went astray")
    return parser.parse_args()


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return folder.resolve()


if __name__ == "__main__":
    sys.exit(main())
