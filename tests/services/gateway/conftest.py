"""The gateway as a process of its own, beside buckets, topics and counterparts that are real."""

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.hospital.counterparts import fhir_server
from local.hospital.study import study_uid
from local.hospital.tools import missing
from local.stack.processes import Supervisor, free_port
from local.stack.provision import make_buckets
from local.stack.system import Stack
from shared import config
from shared.gcp import storage
from shared.pseudonyms import pseudonym
from tests.services.gateway.systems import Pacs, Systems, behind_proxies, running_pacs
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

    def delivered(self) -> list[str]:
        """The destination of each answer that it said was delivered."""
        whole = self.log.read_text().rpartition("\n")[0]  # its last line may be half written
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line["destination"] for line in lines if line["message"] == "delivered"]


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


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    """An Orthanc of the tests' own."""
    with running_pacs(tmp_path_factory.mktemp("pacs")) as started:
        yield started


@pytest.fixture(scope="session")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a FHIR R4 server of the tests' own, which refuses what its validator finds wrong."""
    if "the FHIR server" in missing():
        pytest.skip("the FHIR server is not here; `python -m local.hospital.tools` fetches it into .local/tools")
    directory = tmp_path_factory.mktemp("fhir")
    service = fhir_server(directory)
    supervisor = Supervisor(directory)
    try:
        supervisor.start([service])
        yield service.url
    finally:
        supervisor.stop()


@pytest.fixture(scope="session")
def fallible(pacs: Pacs, fhir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    """One system for each destination, every one of which can be made to fail."""
    archive, messages = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("messages")
    with running_pacs(archive) as second, behind_proxies(pacs, second, fhir, messages) as systems:
        yield systems
