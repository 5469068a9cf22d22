"""The gateway as a process of its own, beside buckets, topics and counterparts that are real."""

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from local.hospital.counterparts import PACS_TITLE, fhir_server, orthanc
from local.hospital.hl7_listener import Listener
from local.hospital.study import study_uid
from local.hospital.tools import missing
from local.stack.processes import Service, Supervisor, free_port
from local.stack.provision import make_buckets
from local.stack.system import Stack
from shared import config
from shared.gcp import storage
from shared.pseudonyms import pseudonym
from tests.support.servers import Server, running

TITLE = "SCANFLOW"
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and the bucket it writes to."""

    server: Server
    dicom_port: int
    bucket: str
    log: Path

    def names(self, patient: str) -> list[str]:
        """Every object's name of the sample study that was made with a patient's name."""
        study = pseudonym(config.pseudonym_key(), study_uid(patient))
        return sorted(blob.name for blob in storage.objects(self.bucket, f"Unlabelled/{study}/"))


Start = Callable[..., "contextmanager[Gateway]"]


@pytest.fixture(scope="session")
def start(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start gateways with settings of the test's own."""

    @contextmanager
    def started(bucket: str = "", **settings: str) -> Iterator[Gateway]:
        bucket = bucket or f"gateway-{uuid.uuid4().hex[:8]}"
        make_buckets({"uploads": bucket})
        port = int(settings.get("DICOM_PORT") or free_port())
        own = {"UPLOADS_BUCKET": bucket, "DICOM_PORT": str(port), "DICOM_AE_TITLE": TITLE, "PYTHONPATH": str(_ROOT)}
        environment = os.environ | {"INFERENCE_URL": stack.url("inference")} | own | settings
        log = tmp_path_factory.mktemp("gateway") / "gateway.log"
        command = [sys.executable, "-m", "services.gateway"]
        with running(command, log, "/healthz", environment=environment) as server:
            yield Gateway(server, port, bucket, log)

    return started


@pytest.fixture(scope="session")
def gateway(start: Start) -> Iterator[Gateway]:
    """A gateway that only receives."""
    with start() as started:
        yield started


@dataclass(frozen=True)
class Pacs:
    """A running Orthanc."""

    service: Service
    dicom_port: int

    @property
    def peer(self) -> str:
        """What a gateway calls it."""
        return f"{PACS_TITLE}@127.0.0.1:{self.dicom_port}"

    def store(self, content: bytes) -> None:
        """Put an instance into it."""
        requests.post(f"{self.service.url}/instances", data=content, timeout=60).raise_for_status()

    def instances(self, study_uid: str, modality: str) -> list[dict]:
        """Every instance of a study that is of a modality, with its tags."""
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study_uid, "Modality": modality}}
        found: list[dict] = requests.post(f"{self.service.url}/tools/find", json=query, timeout=60).json()
        return found

    def file(self, instance: str) -> bytes:
        """An instance as a DICOM file."""
        return requests.get(f"{self.service.url}/instances/{instance}/file", timeout=60).content


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    """An Orthanc of the tests' own."""
    if "Orthanc" in missing():
        pytest.skip("Orthanc is not here; `python -m local.hospital.tools` fetches it into .local/tools")
    directory = tmp_path_factory.mktemp("pacs")
    port = free_port()
    service = orthanc(directory / "orthanc", port, {})
    supervisor = Supervisor(directory)
    try:
        supervisor.start([service])
        yield Pacs(service, port)
    finally:
        supervisor.stop()


@pytest.fixture(scope="session")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a FHIR R4 server of the tests' own, which refuses what its validator finds wrong."""
    if "the FHIR server" in missing():
        pytest.skip("the FHIR server is not here; `python -m local.hospital.tools` fetches it into .local/tools")
    directory, service = tmp_path_factory.mktemp("fhir"), fhir_server()
    supervisor = Supervisor(directory)
    try:
        supervisor.start([service])
        yield service.url
    finally:
        supervisor.stop()


@contextmanager
def hl7_listener(directory: Path, port: int) -> Iterator[None]:
    """An HL7 interface that keeps each message in a file."""
    with Listener(port, directory) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
