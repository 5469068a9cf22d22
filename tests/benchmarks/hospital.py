"""Measure the gateway: instances stored per second, seconds to the report in the PACS, and what a kill loses.

    python -m tests.benchmarks.hospital

Beside it: Orthanc's own receiver, and a bare pynetdicom receiver that writes to disk and syncs.
"""

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import requests
from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.association import Association
from rich.console import Console
from rich.table import Table

from local.hospital import study
from local.hospital.__main__ import beside_a_hospital, fetch_missing
from local.hospital.visit import Visit
from local.stack.processes import free_port
from local.stack.system import Stack
from local.stack.terraform_config import ROOT
from shared import config
from shared.gcp import storage
from shared.pseudonyms import pseudonym
from tests.benchmarks import hospital_bare_receiver
from tests.support.waiting import wait_until

_RUNS = 3
_SENDERS = 4
_INSTANCES = 200
_KILLED_INSTANCES = 2000
_KILL_EVERY_S = 2.0
_QUIET_S = 5.0
_OUTPUT = ROOT / ".local" / "bench" / "hospital.json"


def main() -> int:
    """Measure, print a table and write .local/bench/hospital.json."""
    argparse.ArgumentParser(prog="python -m tests.benchmarks.hospital", description=__doc__).parse_args()
    console = Console()
    fetch_missing(console)
    figures: dict[str, float | str] = {"measured_at": datetime.now(UTC).isoformat()}
    with beside_a_hospital() as (stack, systems):
        gateway = _port_of(stack)
        figures |= _median(lambda number: _received(gateway, f"g{number}"), "")
        figures |= _median(lambda number: _received(systems.pacs_dicom_port, f"o{number}"), "orthanc_")
        with _bare() as port:
            figures |= _median(lambda number: _received(port, f"b{number}"), "bare_")
        figures |= _median(lambda number: _stowed(stack.url("gateway"), f"s{number}"), "stow_")
        seconds = [_answered(systems, number, console) for number in range(_RUNS)]
        figures["answer_p50_s"] = statistics.median(seconds)
        figures["answer_p95_s"] = max(seconds)
        figures |= _killed()
    _print(figures, console)
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps(figures, indent=2))
    return 0


def _port_of(stack: Stack) -> int:
    return int(stack.services["gateway"].environment["DICOM_PORT"])


def _median(measure: Callable[[int], dict[str, float]], prefix: str) -> dict[str, float]:
    """Return the median of each figure over the runs; the first run, which warms up, does not count."""
    runs = [measure(number) for number in range(_RUNS + 1)][1:]
    return {prefix + name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _datasets(name: str, count: int) -> list[Dataset]:
    """Return instances of one study, 256 x 256 and 16 bits like a scanner's, each with its own pixels."""
    template = dcmread(io.BytesIO(study.series(study.head(), name, datetime.now(UTC))[20]))
    made = []
    for number in range(count):
        one = dcmread(io.BytesIO(_encoded(template)))
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{template.SOPInstanceUID[:50]}.{number}"
        one.InstanceNumber = number
        made.append(one)
    return made


def _encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _associate(port: int, dataset: Dataset) -> Association:
    entity = AE(ae_title="BENCH")
    entity.dimse_timeout = entity.network_timeout = 300  # the slow answer is what is measured
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    return entity.associate("127.0.0.1", port)


def _received(port: int, name: str) -> dict[str, float]:
    """Send from several associations at once; answers instances per second and the time to each acknowledgement."""
    datasets, seconds = _datasets(name, _INSTANCES), []

    def send(share: Sequence[Dataset]) -> None:
        association = _associate(port, share[0])
        for dataset in share:
            start = time.perf_counter()
            status = association.send_c_store(dataset)
            seconds.append(time.perf_counter() - start)
            if status.Status != 0:
                raise RuntimeError(f"C-STORE answered {status.Status:04x}.")
        association.release()

    return _timed([lambda share=datasets[at::_SENDERS]: send(share) for at in range(_SENDERS)], seconds)


def _stowed(url: str, name: str) -> dict[str, float]:
    contents, seconds = [_encoded(dataset) for dataset in _datasets(name, _INSTANCES)], []
    content_type = 'multipart/related; type="application/dicom"; boundary=b'

    def send(share: Sequence[bytes]) -> None:
        with requests.Session() as session:
            for content in share:
                body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--"
                start = time.perf_counter()
                answer = session.post(f"{url}/studies", data=body, headers={"Content-Type": content_type}, timeout=60)
                seconds.append(time.perf_counter() - start)
                answer.raise_for_status()

    return _timed([lambda share=contents[at::_SENDERS]: send(share) for at in range(_SENDERS)], seconds)


def _timed(senders: Sequence[Callable[[], None]], seconds: list[float]) -> dict[str, float]:
    threads = [threading.Thread(target=sender) for sender in senders]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    if len(seconds) != _INSTANCES:
        raise RuntimeError("Not every instance was sent.")
    ranks = statistics.quantiles(seconds, n=20)
    return {
        "stored_per_second": _INSTANCES / took,
        "ack_p50_ms": 1000 * statistics.median(seconds),
        "ack_p95_ms": 1000 * ranks[-1],
    }


def _answered(systems: object, number: int, console: Console) -> float:
    """Send a study from the PACS; answers the seconds from its last slice to the report, less the quiet time."""
    name = f"bench{number}{datetime.now(UTC):%H%M%S}"
    visit = Visit(systems, study.study_uid(name))  # type: ignore[arg-type]
    visit.acquire(study.series(study.with_lesion(), name, datetime.now(UTC)))
    visit.send()
    if not visit.wait(console):
        raise RuntimeError("A result did not arrive.")
    return max(0.0, visit.seconds["structured report in the study"] - _QUIET_S)


def _killed() -> dict[str, float]:
    """Send to a gateway that is killed after every two seconds; answers what is not in the bucket, or there twice."""
    datasets, ended, port = _datasets(f"k{time.time():.0f}", _KILLED_INSTANCES), threading.Event(), free_port()
    kills: list[int] = []
    killer = threading.Thread(target=_keep_killing, args=(port, ended, kills))
    killer.start()
    _send_until_all_are_taken(port, datasets)
    ended.set()
    killer.join()
    stored = [
        dcmread(io.BytesIO(storage.read(config.uploads_bucket(), blob.name)), stop_before_pixels=True).SOPInstanceUID
        for blob in storage.objects(config.uploads_bucket(), _folder(datasets[0]))
    ]
    sent = {dataset.SOPInstanceUID for dataset in datasets}
    return {"kills": len(kills), "lost": len(sent - set(stored)), "doubled": len(stored) - len(set(stored))}


def _keep_killing(port: int, ended: threading.Event, kills: list[int]) -> None:
    """Run a gateway until the end, killed two seconds after it has come up, and started again at once."""
    own = {"DICOM_PORT": str(port), "PORT": str(free_port()), "PYTHONPATH": str(ROOT), "INFERENCE_URL": ""}
    destinations = dict.fromkeys(("DICOM_DESTINATION", "FHIR_DESTINATION", "HL7_DESTINATION"), "")
    while not ended.is_set():
        with subprocess.Popen(
            [sys.executable, "-m", "services.gateway"],
            env=os.environ | own | destinations,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            wait_until(lambda: _listens(port))
            ended.wait(_KILL_EVERY_S)
            process.kill()
            kills.append(process.pid)


def _folder(dataset: Dataset) -> str:
    return f"Unlabelled/{pseudonym(config.pseudonym_key(), dataset.StudyInstanceUID)}/"


def _send_until_all_are_taken(port: int, datasets: Sequence[Dataset]) -> None:
    """Send each instance until it is acknowledged, as a modality does that keeps what was not."""
    association: Association | None = None
    for dataset in datasets:
        while True:
            if association is None or not association.is_established:
                association = _associate(port, dataset)
                if not association.is_established:
                    time.sleep(0.05)
                    continue
            if association.send_c_store(dataset).get("Status") == 0:
                break
    if association:
        association.release()


@contextmanager
def _bare() -> Iterator[int]:
    """A pynetdicom receiver as its documentation has it, that writes files and syncs them."""
    port, folder = free_port(), ROOT / ".local" / "bench" / "bare"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", hospital_bare_receiver.__name__, str(port), str(folder)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: _listens(port))
        yield port
    finally:
        process.kill()
        process.wait()
        for file in Path(folder).iterdir():
            file.unlink()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _print(figures: dict[str, float | str], console: Console) -> None:
    shown = Table("receiver", "instances/s", "ack p50 ms", "ack p95 ms", title="Stored instances, four senders")
    names = {"": "gateway, C-STORE", "stow_": "gateway, STOW-RS", "orthanc_": "Orthanc", "bare_": "bare pynetdicom"}
    for prefix, name in names.items():
        row = [figures[prefix + key] for key in ("stored_per_second", "ack_p50_ms", "ack_p95_ms")]
        shown.add_row(name, *(f"{value:.1f}" for value in row))
    console.print(shown)
    console.print(
        f"Report in the PACS {figures['answer_p50_s']:.1f} s after the quiet time, at worst "
        f"{figures['answer_p95_s']:.1f} s. "
        f"Of {_KILLED_INSTANCES} instances under {figures['kills']} kills, {figures['lost']} lost, "
        f"{figures['doubled']} doubled."
    )


if __name__ == "__main__":
    sys.exit(main())
