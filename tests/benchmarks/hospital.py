"""Measure the gateway: instances stored per second, seconds to the report in the PACS, and what a kill loses.

Beside it: Orthanc's own receiver, and a bare pynetdicom receiver that writes to disk and syncs, in the same rounds:
other programs on the machine slow all of them alike. Processor time is what they disturb least.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from local.demo import positive
from local.hospital.__main__ import fetch_missing
from local.hospital.counterparts import Hospital, hospital
from local.stack.processes import Supervisor, free_port
from local.stack.signals import stop_on_signals
from local.stack.system import Stack, running
from local.stack.terraform_config import ROOT
from tests.benchmarks import hospital_answers, hospital_receivers

_OUTPUT = ROOT / ".local" / "bench" / "hospital.json"
_QUIET_S = 5
_PARTS = ("receivers", "answers", "kills")
Figures = dict[str, float | str]


def main() -> int:
    """Measure, print tables and write .local/bench/hospital.json."""
    stop_on_signals()
    options = _options()
    console, figures = Console(), json.loads(_OUTPUT.read_text()) if _OUTPUT.exists() else {}
    figures |= {"measured_at": datetime.now(UTC).isoformat(), "load_before": os.getloadavg()[0]}
    fetch_missing(console)
    with _systems() as (stack, systems):
        if "receivers" in options.part:
            figures |= hospital_receivers.measured(
                systems.pacs, systems.pacs_dicom_port, options.runs, options.instances
            )
            _print_receivers(figures, console)
        gateway = hospital_answers.Gateway(systems, stack)
        if "answers" in options.part:
            figures |= hospital_answers.answered(gateway, 2 * options.runs, _QUIET_S)
            console.print(
                "Report in the PACS {answer_p50_s:.1f} s after the quiet time, at worst {answer_p95_s:.1f} s.".format(
                    **figures
                )
            )
        if "kills" in options.part:
            figures |= hospital_answers.killed(gateway, options.killed)
            console.print(_KILLED.format(**figures))
    figures["load_after"] = os.getloadavg()[0]
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps(figures, indent=2))
    return 0


_KILLED = (
    "Of {sent} instances in {series} series under {kills} kills: {lost} lost, {stored_twice} stored twice; "
    "{reports} reports for {revisions} answers, {doubled} doubled, {unanswered} series without one."
)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-hospital", description=__doc__)
    parser.add_argument(
        "--runs",
        type=positive,
        default=3,
        help="rounds whose median counts, after one that warms up; twice as many reports (3)",
    )
    parser.add_argument("--instances", type=positive, default=200, help="sent to each receiver in a round (200)")
    parser.add_argument("--killed", type=positive, default=2000, help="sent to the gateway that is killed (2000)")
    parser.add_argument("--part", nargs="+", choices=_PARTS, default=_PARTS, help="measure these alone; the rest stays")
    return parser.parse_args()


@contextmanager
def _systems() -> Iterator[tuple[Stack, Hospital]]:
    """Start the PACS and the whole of Scanflow, whose own gateway delivers nothing: gateways to measure are apart."""
    directory, port = ROOT / ".local" / "bench" / "hospital", free_port()
    systems, supervisor = hospital(directory, "SCANFLOW", port), Supervisor(directory)
    os.environ |= {"SERIES_QUIET_SECONDS": str(_QUIET_S), "BENCH_DICOM_PORT": str(port)}
    try:
        supervisor.start([systems.pacs])
        with running(directory / "stack") as stack:
            yield stack, systems
    finally:
        supervisor.stop()


def _print_receivers(figures: Figures, console: Console) -> None:
    columns = ["receiver", "instances/s", "of bare", "ack p50 ms", "ack p95 ms", "processor ms"]
    shown = Table(*columns, title="Stored instances of 92 KB, four senders")
    names = {"": "gateway, C-STORE", "stow_": "gateway, STOW-RS", "orthanc_": "Orthanc", "bare_": "bare pynetdicom"}
    for prefix, name in names.items():
        keys = ("stored_per_second", "of_bare", "ack_p50_ms", "ack_p95_ms", "cpu_ms_per_instance")
        shown.add_row(name, *(f"{float(figures[prefix + key]):.2f}" for key in keys))
    console.print(shown)
    paced = (
        "At 100 instances/s the gateway acknowledges within {paced_ack_p50_ms:.0f} ms (p95: {paced_ack_p95_ms:.0f})."
    )
    console.print(paced.format(**figures))


if __name__ == "__main__":
    sys.exit(main())
