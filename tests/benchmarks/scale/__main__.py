"""How far the system goes, and what stops it: `make scale`, or a part of it with PART=.

Parts that are done are kept under `.local/bench/scale/`, so that a later run goes on; a part that is named is measured
again. All figures go to `.local/bench/scale.json`; `--write` writes the tables of docs/scalability.md and draws its
figures from them.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from local.stack.signals import stop_on_signals
from local.stack.terraform_config import ROOT
from tests.benchmarks.scale import accounts, burst, cloud, drawing, local_check, pipeline, report, rest, soak, workers

FOLDER = ROOT / ".local" / "bench" / "scale"
RESULT = ROOT / ".local" / "bench" / "scale.json"


def main() -> int:
    """Measure what is asked for, print a table and write JSON."""
    stop_on_signals()
    parser = argparse.ArgumentParser(prog="make scale", description=__doc__)
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, metavar="PART", help="measure these parts alone, again if they are done"
    )
    parser.add_argument("--data", type=Path, help="folder of real JPEGs; samples are drawn otherwise")
    parser.add_argument("--seconds", type=float, default=15, help="of each rate (default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=[5, 10, 15, 20, 25, 30, 40, 60], help="of uploads")
    parser.add_argument("--scans", type=int, default=5000, help="of the burst (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="of the soak (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=8, help="scans per second of the soak (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the tables and draw the figures of the page")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in arguments.part or PARTS:
        if arguments.part or not (FOLDER / f"{name}.json").exists():
            _measure(name, arguments)
    figures = merged()
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.write:
        series = {name: json.loads(file.read_text())["series"] for name, file in _files().items()}
        drawing.draw(series, figures)
        report.write(series, figures)
    Console().print(_table(figures))
    return 0


def merged() -> dict[str, float | str]:
    """Return the figures of all parts that are done."""
    return {
        name: value for file in _files().values() for name, value in json.loads(file.read_text())["figures"].items()
    }


def _measure(name: str, arguments: argparse.Namespace) -> None:
    print(f"{name} ...", flush=True)
    load = psutil.getloadavg()[0]
    found = PARTS[name](arguments)
    figures, series = found if isinstance(found, tuple) else (found, None)
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    part = {"figures": rounded | {f"{name}_load_before": round(load, 2)}, "series": _plain(series)}
    (FOLDER / f"{name}.json").write_text(json.dumps(part) + "\n")


def _measured() -> dict[str, float] | None:
    """Return the processor time of a call of each service as measured here, None if it was not."""
    figures = merged()
    names = {"stand_ins": "processor_ms_stand_ins"} | {name: f"processor_ms_{name}" for name in cloud.SERVICES}
    if not all(figure in figures for figure in names.values()):
        return None
    return {name: float(figures[figure]) for name, figure in names.items()}


def _files() -> dict[str, Path]:
    return {name: FOLDER / f"{name}.json" for name in PARTS if (FOLDER / f"{name}.json").exists()}


def _plain(series: Any) -> Any:  # whatever a part returns
    if isinstance(series, list):
        return [_plain(item) for item in series]
    return asdict(series) if is_dataclass(series) and not isinstance(series, type) else series


def _table(figures: dict[str, float | str]) -> Table:
    table = Table("figure", "value", title="Scale")
    for name, value in figures.items():
        table.add_row(name, value if isinstance(value, str) else f"{value:,.3f}")
    return table


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "accounts": lambda _: accounts.measure(),
    "rest": lambda given: rest.measure(given.seconds, given.data),
    "workers": lambda given: workers.measure(given.seconds, given.data),
    "pipeline": lambda given: pipeline.measure(given.rates, given.seconds, given.data),
    "burst": lambda given: burst.measure(given.scans),
    "soak": lambda given: soak.measure(given.minutes, given.rate, given.data),
    "check": lambda _: local_check.compare(merged(), _measured()),
    "cloud": lambda _: cloud.ask(_measured()),
}
"""In this order: the last two are fed with what the others measured."""

if __name__ == "__main__":
    sys.exit(main())
