"""A marker in every header field: it reaches the hospital's own systems, and nothing else of the whole pipeline."""

import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement

from local.stack.processes import free_port
from local.stack.system import BUCKETS, PROJECT, Stack
from local.stack.terraform_config import declared
from shared import config
from shared.gcp import bigquery, storage
from shared.pseudonyms import pseudonym
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.systems import Pacs, hl7_listener
from tests.services.gateway.test_receiver import instances, send
from tests.support.waiting import wait_until

FREE_TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"}
FURTHER = (
    "InstitutionName",
    "InstitutionAddress",
    "OperatorsName",
    "PerformingPhysicianName",
    "PatientAddress",
    "PatientComments",
    "OtherPatientNames",
    "StationName",
    "ProtocolName",
    "RequestingPhysician",
    "IssuerOfPatientID",
    "DeviceSerialNumber",
    "ImageComments",
    "PatientTelephoneNumbers",
)
OF_THE_STUDY = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "StudyID", "ReferringPhysicianName")
SLICES = 3


def marked(run: str) -> list[Dataset]:
    """Return slices of a sample series with a marker in every field that takes text, nested and private ones too."""
    files = instances(f"marked{run}")[18 : 18 + SLICES]
    for dataset in files:
        for keyword in FURTHER:
            setattr(dataset, keyword, "")
        nested = Dataset()
        nested.PatientName, nested.RequestedProcedureDescription = "", ""
        dataset.RequestAttributesSequence = [nested]
        dataset.add(DataElement(0x00110010, "LO", ""))
        dataset.add(DataElement(0x00111001, "LO", ""))
        for number, element in enumerate(item for item in dataset.iterall() if item.VR in FREE_TEXT):
            element.value = f"M{run}{number}"
    return files


def secrets(datasets: list[Dataset], run: str) -> list[bytes]:
    """Return what may not be found outside: the markers' beginning, and the UIDs that lead to the patient."""
    uids = {str(one[keyword].value) for one in datasets for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
    return [
        f"M{run}".encode(),
        *(uid.encode() for uid in uids),
        *(str(one.SOPInstanceUID).encode() for one in datasets),
    ]


@pytest.fixture
def messages(stack: Stack) -> Iterator[list[str]]:
    """Subscriptions of the test's own to every topic."""
    names = []
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        for topic in publisher.list_topics(project=f"projects/{PROJECT}"):
            name = f"projects/{PROJECT}/subscriptions/marker-{uuid.uuid4().hex[:12]}"
            subscriber.create_subscription(types.Subscription(name=name, topic=topic.name, ack_deadline_seconds=600))
            names.append(name)
        yield names
        for name in names:
            subscriber.delete_subscription(subscription=name)


@pytest.fixture
def systems(pacs: Pacs, fhir: str) -> tuple[Pacs, str]:
    return pacs, fhir


@pytest.mark.drill
def test_marker_reaches_pacs_and_emr_and_appears_nowhere_else(
    start: Start, stack: Stack, systems: tuple[Pacs, str], tmp_path: Path, messages: list[str]
) -> None:
    pacs, fhir = systems
    run = uuid.uuid4().hex[:8]
    datasets, hl7_port = marked(run), free_port()
    study = str(datasets[0].StudyInstanceUID)
    settings = {
        "DICOM_DESTINATION": pacs.peer,
        "FHIR_DESTINATION": fhir,
        "HL7_DESTINATION": f"127.0.0.1:{hl7_port}",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }
    with hl7_listener(tmp_path, hl7_port), start(BUCKETS["uploads"], **settings) as gateway:
        assert send(gateway, datasets) == [0] * SLICES
        wait_until(lambda: _answered(stack, study), pause_s=2)
        wait_until(lambda: pacs.instances(study, "SR") and pacs.instances(study, "OT"), pause_s=1)
        wait_until(lambda: list(tmp_path.glob("*.hl7")) and f"M{run}" in _emr(fhir), pause_s=1)
        _check_pacs(pacs, datasets[0])
        assert all(str(datasets[0][keyword].value) in _emr(fhir) for keyword in ("PatientName", "PatientID"))
        (message,) = tmp_path.glob("*.hl7")
        wanted = [str(datasets[0][keyword].value) for keyword in ("PatientName", "PatientID", "AccessionNumber")]
        assert all(marker in message.read_text() for marker in wanted)
        outside = dict(_outside(gateway, stack, messages))
    pseudonymous = pseudonym(config.pseudonym_key(), study).encode()
    assert pseudonymous in outside["table series"]  # where the study is, if under no name
    for secret in secrets(datasets, run):
        assert [place for place, content in outside.items() if secret in content] == []


def _answered(stack: Stack, study: str) -> bool:
    requests.post(stack.url("summarise_series"), timeout=120)
    study_id = pseudonym(config.pseudonym_key(), study)
    return bool(bigquery.query("SELECT 1 FROM {dataset}.series WHERE study_id = @id", id=study_id))


def _check_pacs(pacs: Pacs, source: Dataset) -> None:
    for modality in ("SR", "OT"):
        for one in pacs.instances(str(source.StudyInstanceUID), modality):
            result = dcmread(io.BytesIO(pacs.file(one["ID"])))
            assert all(result[keyword].value == source[keyword].value for keyword in OF_THE_STUDY)


def _emr(fhir: str) -> str:
    kinds = ("DiagnosticReport", "Observation", "ImagingStudy", "Device")
    return "".join(requests.get(f"{fhir}/{kind}?_count=1000", timeout=60).text for kind in kinds)


def _outside(gateway: Gateway, stack: Stack, messages: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield every place that may hold no header: buckets, tables, topics and logs, with its content."""
    for purpose, bucket in BUCKETS.items():
        for blob in storage.objects(bucket):
            content = b"" if purpose == "uploads" or blob.name.endswith(".tflite") else storage.read(bucket, blob.name)
            yield f"{bucket}/{blob.name}", f"{blob.name} {blob.metadata}".encode() + content
    for table in declared()["tables"]:
        rows = bigquery.query("SELECT * FROM {dataset}." + table)
        yield f"table {table}", json.dumps(rows, default=str).encode()
    with pubsub_v1.SubscriberClient() as subscriber:
        for name in messages:
            pulled = subscriber.pull(subscription=name, max_messages=1000, timeout=30).received_messages
            yield name, b"".join(one.message.data + str(one.message.attributes).encode() for one in pulled)
    for log in [*stack.supervisor.logs.glob("*.log"), gateway.log]:
        yield str(log), log.read_bytes()
