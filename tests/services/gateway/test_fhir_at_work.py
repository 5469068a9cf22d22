"""A FHIR server that is killed while answers are delivered to it has each of them once when it is back."""

import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import requests

from local.hospital.counterparts import fhir_server
from local.hospital.tools import missing
from local.stack.processes import Service, Supervisor
from tests.chaos.proxy import Fault, Proxy
from tests.services.gateway.conftest import Start
from tests.services.gateway.test_deliveries import answered, publish, subscribe
from tests.support.waiting import wait_until

ANSWERS = 8
KINDS = ("DiagnosticReport", "Observation", "ImagingStudy")


@dataclass(frozen=True)
class Emr:
    """A running server that is started again when it dies."""

    supervisor: Supervisor
    service: Service
    journal: Path

    def taken(self) -> int:
        """How many transactions it has written down, heard or unheard."""
        return len(self.journal.read_text().splitlines()) if self.journal.exists() else 0

    def kill(self) -> None:
        """Kill it, without a chance to finish what it does."""
        os.kill(self.supervisor.processes()[self.service.name].pid, signal.SIGKILL)

    def has(self, kind: str) -> Counter[str]:
        """How many resources of a type it has, by their identifier."""
        entries = requests.get(f"{self.service.url}/{kind}?_count=1000", timeout=60).json().get("entry") or []
        return Counter(entry["resource"]["identifier"][0]["value"] for entry in entries)


@pytest.fixture
def emr(tmp_path: Path) -> Iterator[Emr]:
    if "the FHIR server" in missing():
        pytest.skip("the FHIR server is not here; `python -m local.hospital.tools` fetches it into .local/tools")
    service, supervisor = fhir_server(tmp_path), Supervisor(tmp_path)
    try:
        supervisor.start([service])
        yield Emr(supervisor, service, tmp_path / "journal.jsonl")
    finally:
        supervisor.stop()


@pytest.mark.drill
def test_server_killed_during_deliveries_loses_and_doubles_nothing(start: Start, emr: Emr) -> None:
    run, project, proxy = uuid.uuid4().hex[:6], f"emr-{uuid.uuid4().hex[:8]}", Proxy(emr.service.port, Random(1))
    subscribe(project)
    with start(GOOGLE_CLOUD_PROJECT=project, FHIR_DESTINATION=f"http://127.0.0.1:{proxy.port}") as gateway:
        events = [answered(gateway, f"emr-{number}-{run}") for number in range(ANSWERS)]
        with proxy.failing(Fault.WITHHELD):  # the first is taken, and nobody hears of it
            publish(project, events[0])
            wait_until(emr.taken)
            emr.kill()
        assert not gateway.delivered()
        for event in events[1:]:
            publish(project, event)
        for _ in range(ANSWERS // 2):
            before = emr.taken()
            wait_until(lambda before=before: emr.taken() > before, pause_s=0.001)
            emr.kill()
        wait_until(lambda: len(gateway.delivered()) >= ANSWERS)
    proxy.close()
    wait_until(emr.service.is_ready)
    assert emr.supervisor.restarts[emr.service.name] > ANSWERS // 2
    for kind in KINDS:
        found = emr.has(kind)
        assert len(found) == ANSWERS, kind
        assert set(found.values()) == {1}, kind
    assert emr.has("Device").total() == 1
