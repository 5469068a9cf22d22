"""How soon a report is in the PACS, and what is lost or doubled where the gateway is killed all the time."""

import io
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import requests
from pydicom import Dataset, dcmread

from local.hospital import study
from local.hospital.counterparts import Hospital
from local.stack.processes import free_port
from local.stack.system import BUCKETS, Stack
from local.stack.terraform_config import ROOT
from shared import config
from shared.gcp import bigquery, storage
from shared.ml.series_summary import BUCKET_S
from shared.pseudonyms import pseudonym
from tests.benchmarks.hospital_receivers import listening
from tests.benchmarks.hospital_sender import Sender, message
from tests.support.waiting import wait_until

_KILL_AFTER_S = 2.0
_WITHIN_S = 300
_SETTLED_S = 30.0
_SERIES_SLICES = 40
Figures = dict[str, float]


@dataclass(frozen=True)
class Gateway:
    """A gateway between the PACS and the pipeline, to be started and killed."""

    systems: Hospital
    stack: Stack

    @property
    def port(self) -> int:
        """Where the PACS looks for it."""
        return int(os.environ["BENCH_DICOM_PORT"])

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until left."""
        own = {"DICOM_PORT": str(self.port), "PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
        to = {"DICOM_DESTINATION": self.systems.gateway_environment()["DICOM_DESTINATION"]}
        own |= to | {"INFERENCE_URL": self.stack.url("inference")}
        with (ROOT / ".local" / "bench" / "gateway.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"], env=os.environ | own, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: listening(self.port))
            yield process
        finally:
            process.kill()
            process.wait()

    def reports(self, study_uid: str) -> list[dict[str, Any]]:
        """Return every structured report that the PACS has in a study."""
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study_uid, "Modality": "SR"}}
        address = f"{self.systems.pacs.url}/tools/find"
        found: list[dict[str, Any]] = requests.post(address, json=query, timeout=60).json()
        return found


def answered(gateway: Gateway, runs: int, quiet_s: float) -> Figures:
    """Return seconds from the last instance's acknowledgement to the report in the PACS, less the quiet time.

    Answers are asked for at whole multiples of some seconds, so the studies begin evenly spread between two of them.
    """
    seconds: list[float] = []
    with gateway.running():
        for number in range(runs + 1):
            name = f"b{number}{datetime.now(UTC):%H%M%S}"
            for content in study.series(study.with_lesion(), name, datetime.now(UTC)):
                requests.post(f"{gateway.systems.pacs.url}/instances", data=content, timeout=60).raise_for_status()
            time.sleep((number / runs * BUCKET_S - time.time()) % BUCKET_S)
            _send_from_pacs(gateway, study.study_uid(name))
            sent = time.monotonic()
            wait_until(lambda name=name: gateway.reports(study.study_uid(name)), pause_s=0.1)
            seconds.append(time.monotonic() - sent - quiet_s)
    measured = seconds[1:]  # the first loads what makes reports
    return {"answer_first_s": seconds[0], "answer_p50_s": statistics.median(measured), "answer_p95_s": max(measured)}


def _send_from_pacs(gateway: Gateway, study_uid: str) -> None:
    query = {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}}
    (found,) = requests.post(f"{gateway.systems.pacs.url}/tools/find", json=query, timeout=60).json()
    address, body = f"{gateway.systems.pacs.url}/modalities/scanflow/store", {"Resources": [found], "Synchronous": True}
    requests.post(address, json=body, timeout=600).raise_for_status()


def killed(gateway: Gateway, count: int) -> Figures:
    """Send to a gateway that is killed two seconds after its first answer, until all is stored and answered; count."""
    sent = _studies(count)
    ended, kills, progress = threading.Event(), [0], [0]
    killer = threading.Thread(target=_keep_killing, args=(gateway, ended, kills, progress))
    killer.start()
    try:
        _send_until_acknowledged(gateway.port, [one for series in sent.values() for one in series], progress)
        progress[0] = -1
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline and not all(gateway.reports(uid) for uid in sent):
            time.sleep(2)
    finally:
        ended.set()
        killer.join()
    with gateway.running():
        _settle(gateway, list(sent))
    return {"kills": kills[0], "sent": count, "series": len(sent)} | _counted(gateway, sent)


def _settle(gateway: Gateway, studies: Sequence[str]) -> None:
    """Wait until every series has a report, and no further one came for half a minute."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < (_SETTLED_S if count >= len(studies) else _WITHIN_S):
        now = sum(len(gateway.reports(uid)) for uid in studies)
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(2)


def _counted(gateway: Gateway, sent: dict[str, list[Dataset]]) -> Figures:
    lost = twice = reports = revisions = unanswered = 0
    for study_uid, instances in sent.items():
        study_id = pseudonym(config.pseudonym_key(), study_uid)
        stored = [
            dcmread(io.BytesIO(storage.read(BUCKETS["uploads"], blob.name)), stop_before_pixels=True).SOPInstanceUID
            for blob in storage.objects(BUCKETS["uploads"], f"Unlabelled/{study_id}/")
        ]
        lost += len({one.SOPInstanceUID for one in instances} - set(stored))
        twice += len(stored) - len(set(stored))
        said = bigquery.query("SELECT DISTINCT revision FROM {dataset}.series WHERE study_id = @id", id=study_id)
        found = len(gateway.reports(study_uid))
        reports, revisions, unanswered = reports + found, revisions + len(said), unanswered + (not found)
    doubled = max(0, reports - revisions) + twice
    return {
        "lost": lost,
        "stored_twice": twice,
        "reports": reports,
        "revisions": revisions,
        "doubled": doubled,
        "unanswered": unanswered,
    }


def _studies(count: int) -> dict[str, list[Dataset]]:
    """Return instances of many studies of one series each, by Study Instance UID."""
    run, volume = uuid.uuid4().hex[:8], study.with_lesion()
    made = {}
    for number, share in enumerate(batched(range(count), _SERIES_SLICES, strict=False)):
        name = f"k{run}{number}"
        files = study.series(volume, name, datetime.now(UTC))[: len(share)]
        made[study.study_uid(name)] = [dcmread(io.BytesIO(file)) for file in files]
    return made


def _keep_killing(gateway: Gateway, ended: threading.Event, kills: list[int], progress: list[int]) -> None:
    """Kill the gateway again and again; where the machine is busy, not before it has stored anything.

    Once everything is sent, `progress` is -1, and each gateway has three times as long, to make and send results.
    """
    while not ended.is_set():
        before = progress[0]
        with gateway.running() as process:
            while progress[0] == before >= 0 and not ended.wait(0.05):
                pass
            ended.wait(_KILL_AFTER_S if progress[0] >= 0 else 3 * _KILL_AFTER_S)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills[0] += 1


def _send_until_acknowledged(port: int, instances: Sequence[Dataset], progress: list[int]) -> None:
    """Send each instance until it is acknowledged, as a modality does that keeps what was not."""
    sender: Sender | None = None
    for number, instance in enumerate(instances):
        while True:
            try:
                sender = sender or Sender(port, instance)
                if sender.store(message(instance, number, sender.pdu_bytes)) == 0:
                    progress[0] = number + 1
                    break
            except OSError:
                sender = None
                time.sleep(0.05)
    if sender:
        with suppress(OSError):
            sender.release()
