"""Does the loop promote what is better and nothing else, and does it come back in time?

    python -m tests.benchmarks.loop --part sabotages --data FOLDER    twenty candidates that should stop somewhere
    python -m tests.benchmarks.loop --part rollback                   seconds to the last answer of a bad release
    python -m tests.benchmarks.loop --part corrections --data FOLDER  a new site, learnt from its readers

Prints a table for each part and keeps what was measured in `.local/bench/loop.json`.
"""

import argparse
import json
from pathlib import Path

OUTPUT = Path(".local/bench/loop.json")
PARTS = ("sabotages", "rollback", "corrections")


def main() -> None:
    """Measure the parts that are asked for; the figures of the others stay as they were."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.loop", description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of labelled scans")
    parser.add_argument("--folder", type=Path, default=Path(".local/training"), help="where prepared scans are kept")
    arguments = parser.parse_args()
    from tests.benchmarks import loop_corrections, loop_gate, loop_rollback  # noqa: PLC0415 - they load TensorFlow

    for part in arguments.part or PARTS:
        match part:
            case "sabotages":
                found = loop_gate.measured(arguments.data, arguments.folder)
            case "rollback":
                found = loop_rollback.measured()
            case _:
                found = loop_corrections.measured(arguments.data, arguments.folder)
        _keep(found)


def _keep(figures: dict[str, object]) -> None:
    """Add figures to the benchmark's file."""
    known = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(known | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
