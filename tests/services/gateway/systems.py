"""A hospital's systems, each behind a proxy that can refuse, or keep back what it answers."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
import requests

from local.hospital.counterparts import PACS_TITLE, orthanc
from local.hospital.hl7_listener import Listener
from local.hospital.study import study_uid
from local.hospital.tools import missing
from local.stack.processes import Service, Supervisor, free_port
from tests.chaos.proxy import Fault, Proxy

_P_DATA = 4
"""Type of the PDU that answers C-STORE (PS3.8 9.3.5); the association must be answered before."""


@dataclass(frozen=True)
class Pacs:
    """A running Orthanc."""

    service: Service
    dicom_port: int

    @property
    def peer(self) -> str:
        """What a gateway calls it."""
        return f"{PACS_TITLE}@127.0.0.1:{self.dicom_port}"

    def store(self, content: bytes) -> dict[str, str]:
        """Put an instance into it; answers its ids of the instance, its series, study and patient."""
        answer = requests.post(f"{self.service.url}/instances", data=content, timeout=60)
        answer.raise_for_status()
        ids: dict[str, str] = answer.json()
        return ids

    def patient_of(self, instance: str) -> str:
        """Its id of the patient of an instance."""
        return str(requests.get(f"{self.service.url}/instances/{instance}/patient", timeout=60).json()["ID"])

    def instances(self, study_uid: str, modality: str) -> list[dict]:
        """Every instance of a study that is of a modality, with its tags."""
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study_uid, "Modality": modality}}
        found: list[dict] = requests.post(f"{self.service.url}/tools/find", json=query, timeout=60).json()
        return found

    def file(self, instance: str) -> bytes:
        """An instance as a DICOM file."""
        return requests.get(f"{self.service.url}/instances/{instance}/file", timeout=60).content


@contextmanager
def running_pacs(directory: Path) -> Iterator[Pacs]:
    """An Orthanc that keeps everything under a folder."""
    if "Orthanc" in missing():
        pytest.skip("Orthanc is not here; `python -m local.hospital.tools` fetches it into .local/tools")
    port = free_port()
    service = orthanc(directory / "orthanc", port, {})
    supervisor = Supervisor(directory)
    try:
        supervisor.start([service])
        yield Pacs(service, port)
    finally:
        supervisor.stop()


@contextmanager
def hl7_listener(directory: Path, port: int) -> Iterator[None]:
    """An HL7 interface that keeps each message in a file."""
    with Listener(port, directory) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@dataclass(frozen=True)
class Systems:
    """One system for each destination, so that what arrived by C-STORE is told from what arrived by STOW-RS."""

    pacs: Pacs
    archive: Pacs
    fhir: str
    messages: Path
    proxies: Mapping[str, Proxy]

    def settings(self, project: str) -> dict[str, str]:
        """What a gateway is told of them."""
        port = {name: proxy.port for name, proxy in self.proxies.items()}
        return {
            "GOOGLE_CLOUD_PROJECT": project,
            "DICOM_DESTINATION": f"{self.pacs.peer.partition(':')[0]}:{port['deliver-dicom']}",
            "DICOMWEB_DESTINATION": f"http://127.0.0.1:{port['deliver-dicomweb']}/dicom-web",
            "FHIR_DESTINATION": f"http://127.0.0.1:{port['deliver-fhir']}",
            "HL7_DESTINATION": f"127.0.0.1:{port['deliver-hl7']}",
        }

    @contextmanager
    def failing(self, fault: Fault, *destinations: str) -> Iterator[None]:
        """Let a fault of some of them last."""
        with ExitStack() as faults:
            for name in destinations:
                faults.enter_context(self.proxies[name].failing(fault))
            yield

    def reports(self, destination: str, name: str) -> int:
        """How many reports on a patient a destination has."""
        match destination:
            case "deliver-dicom":
                return len(self.pacs.instances(study_uid(name), "SR"))
            case "deliver-dicomweb":
                return len(self.archive.instances(study_uid(name), "SR"))
            case "deliver-fhir":
                return requests.get(f"{self.fhir}/DiagnosticReport?_count=1000", timeout=60).text.count(
                    f"SAMPLE-{name}"
                )
        return sum(f"Sample^{name}" in file.read_text() for file in self.messages.iterdir())

    def has_all_of(self, destination: str, name: str, heat_maps: int = 2) -> bool:
        """Whether a destination has a report on a patient, and the heat maps where it takes images."""
        images = {"deliver-dicom": self.pacs, "deliver-dicomweb": self.archive}.get(destination)
        complete = not images or len(images.instances(study_uid(name), "OT")) == heat_maps
        return complete and self.reports(destination, name) > 0


@contextmanager
def behind_proxies(pacs: Pacs, archive: Pacs, fhir: str, messages: Path) -> Iterator[Systems]:
    """Put a proxy in front of each system; an HL7 interface is started, which keeps its messages in a folder."""
    hl7 = free_port()
    targets = {"deliver-dicomweb": archive.service.port, "deliver-fhir": urlsplit(fhir).port or 80, "deliver-hl7": hl7}
    proxies = {name: Proxy(port, Random(1)) for name, port in targets.items()}
    proxies["deliver-dicom"] = Proxy(pacs.dicom_port, Random(1), withholds=lambda answer: answer[0] == _P_DATA)
    with hl7_listener(messages, hl7):
        yield Systems(pacs, archive, fhir, messages, proxies)
    for proxy in proxies.values():
        proxy.close()
