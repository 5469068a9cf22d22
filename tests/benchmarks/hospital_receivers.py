"""How fast receivers store, and how soon they acknowledge: ours beside Orthanc's and a bare one."""

import io
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import requests
from pydicom import Dataset, dcmread

from local.hospital import study
from local.stack.processes import Service, free_port
from local.stack.provision import make_buckets
from local.stack.terraform_config import ROOT
from tests.benchmarks import hospital_bare_receiver
from tests.benchmarks.hospital_sender import Sender, message
from tests.support.waiting import wait_until

_SENDERS = 4
_PACE = 100
Figures = dict[str, float]
Send = Callable[[bytes], None]


def measured(pacs: Service, pacs_port: int, runs: int, instances: int) -> Figures:
    """Return medians over the rounds of every receiver, and each one's share of the bare receiver's speed."""
    with _bare() as (bare, bare_port), _gateway() as (gateway, port, url):
        orthanc = next(one for one in psutil.process_iter() if _listens(one, pacs.port))
        receivers: dict[str, Callable[[], Figures]] = {
            "bare_": lambda: _received(bare, bare_port, instances),
            "": lambda: _received(gateway, port, instances),
            "stow_": lambda: _stowed(gateway, url, instances),
            "orthanc_": lambda: _received(orthanc, pacs_port, instances),
            "paced_": lambda: _received(gateway, port, instances, _PACE),
        }
        rounds = [{name: measure() for name, measure in receivers.items()} for _ in range(runs + 1)][1:]
    for one in rounds:
        for figures in one.values():
            figures["of_bare"] = figures["stored_per_second"] / one["bare_"]["stored_per_second"]
    return {
        prefix + name: statistics.median(one[prefix][name] for one in rounds)
        for prefix, figures in rounds[0].items()
        for name in figures
    }


def datasets(name: str, count: int) -> list[Dataset]:
    """Return instances of one series, 233 x 197 and 16 bits like a scanner's, each with a UID of its own."""
    template = dcmread(io.BytesIO(study.series(study.head(), name, datetime.now(UTC))[20]))
    made = []
    for number in range(count):
        one = dcmread(io.BytesIO(encoded(template)))
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{template.SOPInstanceUID[:50]}.{number}"
        one.InstanceNumber = number
        made.append(one)
    return made


def encoded(dataset: Dataset) -> bytes:
    """Return an instance as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _received(process: psutil.Process, port: int, count: int, per_second: int = 0) -> Figures:
    made = datasets(uuid.uuid4().hex[:12], count)
    senders = [Sender(port, made[0]) for _ in range(_SENDERS)]
    messages = [message(one, number, senders[0].pdu_bytes) for number, one in enumerate(made, start=1)]

    def stores(sender: Sender) -> Send:
        def send(content: bytes) -> None:
            if status := sender.store(content):
                raise RuntimeError(f"C-STORE answered {status:04x}.")

        return send

    try:
        return _timed(process, [stores(sender) for sender in senders], messages, per_second)
    finally:
        for sender in senders:
            sender.release()


def _stowed(process: psutil.Process, url: str, count: int) -> Figures:
    bodies = [
        b"--b\r\nContent-Type: application/dicom\r\n\r\n" + encoded(one) + b"\r\n--b--"
        for one in datasets(uuid.uuid4().hex[:12], count)
    ]
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}

    def posts() -> Send:
        session = requests.Session()
        session.trust_env = False
        return lambda body: session.post(f"{url}/studies", data=body, headers=kind, timeout=300).raise_for_status()

    return _timed(process, [posts() for _ in range(_SENDERS)], bodies, 0)


def _timed(process: psutil.Process, senders: Sequence[Send], contents: Sequence[bytes], per_second: int) -> Figures:
    """Send a share by each sender at once, as fast as it is acknowledged or at a pace; times the acknowledgements."""
    seconds: list[float] = []
    start, processor = time.perf_counter(), sum(process.cpu_times()[:2])

    def share(at: int) -> None:
        for number in range(at, len(contents), len(senders)):
            if per_second:
                time.sleep(max(0.0, start + number / per_second - time.perf_counter()))
            sent = time.perf_counter()
            senders[at](contents[number])
            seconds.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=share, args=(at,)) for at in range(len(senders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.perf_counter() - start, sum(process.cpu_times()[:2]) - processor
    if len(seconds) != len(contents):
        raise RuntimeError("Not every instance was sent.")
    return {
        "stored_per_second": len(contents) / took,
        "ack_p50_ms": 1000 * statistics.median(seconds),
        "ack_p95_ms": 1000 * statistics.quantiles(seconds, n=20)[-1],
        "cpu_ms_per_instance": 1000 * used / len(contents),
    }


@contextmanager
def _bare() -> Iterator[tuple[psutil.Process, int]]:
    """A pynetdicom receiver as its documentation has it, that writes files and syncs them."""
    port = free_port()
    with TemporaryDirectory(dir=ROOT / ".local") as folder:
        command = [sys.executable, "-m", hospital_bare_receiver.__name__, str(port), folder]
        with _process(command, {}, port) as process:
            yield process, port


@contextmanager
def _gateway() -> Iterator[tuple[psutil.Process, int, str]]:
    """A gateway on a bucket that nothing listens to: the pipeline's work would be measured with it."""
    bucket, port, http = f"bench-{uuid.uuid4().hex[:8]}", free_port(), free_port()
    make_buckets({"uploads": bucket})
    own = {"UPLOADS_BUCKET": bucket, "DICOM_PORT": str(port), "PORT": str(http)}
    with _process([sys.executable, "-m", "services.gateway"], own, port) as process:
        yield process, port, f"http://127.0.0.1:{http}"


@contextmanager
def _process(command: Sequence[str], own: dict[str, str], port: int) -> Iterator[psutil.Process]:
    log = ROOT / ".local" / "bench" / "receiver.log"
    environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
    with Path(log).open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: listening(port))
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def listening(port: int) -> bool:
    """Return whether somebody takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(one.laddr.port == port and one.status == "LISTEN" for one in process.net_connections("tcp"))
    except psutil.Error:
        return False
