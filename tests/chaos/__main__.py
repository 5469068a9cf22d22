"""Kill, freeze and cut off every part of the running system, and account for every upload: `make chaos`.

Prints a table with a line per seed and writes `.local/bench/chaos.json`. Exit status 1 if anything was lost, doubled or
altered.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local.demo import positive
from local.stack.signals import stop_on_signals
from local.stack.terraform_config import ROOT
from tests.chaos.clock import NoClock, check
from tests.chaos.drill import Result, drill

RESULT = ROOT / ".local" / "bench" / "chaos.json"


def main() -> int:
    """Run the drills."""
    stop_on_signals()
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=positive, default=20, help="how many drills (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--uploads", type=positive, default=200, help="files in each drill (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder that keeps the state and the logs of each drill")
    arguments = parser.parse_args()
    console, results, jumps = Console(), list[Result](), True
    try:
        check()
    except NoClock as reason:
        console.print(str(reason))
        jumps = False
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            directory = arguments.keep / str(seed) if arguments.keep else Path(folder)
            results.append(drill(directory, seed, arguments.uploads, jumps))
        console.print(_table(f"seed {seed}", results[-1:]))
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(summary(results), indent=2) + "\n")
    console.print(_table("all drills", results))
    return 0 if all(_is_clean(result) for result in results) else 1


def summary(results: Sequence[Result]) -> dict[str, int]:
    """Return the figures of all drills together."""
    accounts = [result.account for result in results]
    counts = dict.fromkeys(("kills", "freezes", "faults", "full_disks", "jumps", "restarts"), 0)
    for result in results:
        counts = {name: counts[name] + result.disturbances[name] for name in counts}
    return {
        "seeds": len(results),
        "uploads": sum(result.uploads for result in results),
        **counts,
        "reconciled": sum(result.reconciled for result in results),
        "lost": sum(len(account.missing) for account in accounts),
        "doubled": sum(len(account.doubled) for account in accounts),
        "contradicted": sum(len(account.contradicted) for account in accounts),
        "altered": sum(len(account.altered) for account in accounts),
    }


def _is_clean(result: Result) -> bool:
    found = result.account
    return not (found.missing or found.doubled or found.contradicted or found.altered)


def _table(title: str, results: Sequence[Result]) -> Table:
    table = Table("figure", "count", title=title)
    for name, value in summary(results).items():
        table.add_row(name, f"{value:,}")
    return table


if __name__ == "__main__":
    sys.exit(main())
