"""The way back: into the study in the PACS, to the EMR and the HL7 interface, once, and again when one was down."""

import io
import json
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import types
from pydicom import Dataset, dcmread

from local.samples import encode, healthy_slices
from local.stack.processes import free_port
from local.stack.system import BUCKETS
from services.gateway import deliveries
from shared import config
from shared.events import SeriesSummarised
from shared.gcp import storage
from shared.pseudonyms import pseudonym
from shared.results.headers import read_header
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.systems import Pacs, hl7_listener
from tests.services.gateway.test_receiver import instances, send
from tests.support.series import slices, summarised
from tests.support.waiting import wait_until

DESTINATIONS = ("deliver-dicom", "deliver-dicomweb", "deliver-fhir", "deliver-hl7")


@dataclass(frozen=True)
class Hospital:
    """A gateway that delivers to everything, and where its answers are published."""

    gateway: Gateway
    pacs: Pacs
    fhir: str
    hl7_port: int
    project: str
    start: Start
    settings: dict[str, str]

    def publish(self, event: SeriesSummarised, times: int = 1) -> None:
        """Publish an answer, several times as Pub/Sub may deliver it."""
        for _ in range(times):
            publish(self.project, event)

    def reports(self, name: str) -> list[dict]:
        """The reports that the EMR has of a patient."""
        entries = requests.get(f"{self.fhir}/DiagnosticReport?_count=1000", timeout=60).json().get("entry") or []
        found = [entry["resource"] for entry in entries]
        return [one for one in found if one["subject"]["identifier"]["value"] == f"SAMPLE-{name}"]

    def results(self, name: str) -> tuple[int, int]:
        """How many structured reports and heat map images the PACS has in a study."""
        return len(self.pacs.instances(uid(name), "SR")), len(self.pacs.instances(uid(name), "OT"))


@pytest.fixture(scope="module")
def hospital(start: Start, pacs: Pacs, fhir: str) -> Iterator[Hospital]:
    project, port = f"hospital-{uuid.uuid4().hex[:8]}", free_port()
    subscribe(project)
    settings = {
        "GOOGLE_CLOUD_PROJECT": project,
        "DICOM_DESTINATION": pacs.peer,
        "DICOMWEB_DESTINATION": f"{pacs.service.url}/dicom-web",
        "FHIR_DESTINATION": fhir,
        "HL7_DESTINATION": f"127.0.0.1:{port}",
    }
    with start(**settings) as gateway:
        yield Hospital(gateway, pacs, fhir, port, project, start, settings)


def publish(project: str, event: SeriesSummarised) -> None:
    """Publish an answer to a project's topic."""
    topic = f"projects/{project}/topics/series-summarised"
    pubsub_v1.PublisherClient().publish(topic, event.to_json(), event=event.TOPIC).result()


def subscribe(project: str) -> None:
    """Make the topic and a subscription for each destination, as Terraform does, with shorter waits."""
    publisher = pubsub_v1.PublisherClient()
    publisher.create_topic(name=f"projects/{project}/topics/series-summarised")
    with pubsub_v1.SubscriberClient() as subscriber:
        for name in DESTINATIONS:
            subscriber.create_subscription(
                types.Subscription(
                    name=f"projects/{project}/subscriptions/{name}",
                    topic=f"projects/{project}/topics/series-summarised",
                    ack_deadline_seconds=10,
                    retry_policy=types.RetryPolicy(
                        minimum_backoff=Duration(seconds=1), maximum_backoff=Duration(seconds=1)
                    ),
                )
            )


def uid(name: str) -> str:
    return str(read_header(slices(name)[0]).StudyInstanceUID)


def answered(gateway: Gateway, name: str, **changes: object) -> SeriesSummarised:
    """Send two slices to the gateway; answers the summary of their series, as the pipeline publishes it."""
    assert send(gateway, instances(name)[10:12]) == [0, 0]
    event = summarised([storage.read(gateway.bucket, object_name) for object_name in gateway.names(name)])
    for one in event.suspicious:
        storage.create(BUCKETS["scans"], one.name, encode(healthy_slices()[5], "PNG"), "image/png")
    header, key = read_header(slices(name)[10]), config.pseudonym_key()
    ids = {
        "study_id": pseudonym(key, header.StudyInstanceUID),
        "series_id": pseudonym(key, header.SeriesInstanceUID),
    }
    return SeriesSummarised.from_json(json.dumps(json.loads(event.to_json()) | ids | changes).encode())


def test_everything_arrives_once_however_often_it_is_delivered(hospital: Hospital, tmp_path: Path) -> None:
    for content in slices("once")[10:12]:
        hospital.pacs.store(content)
    with hl7_listener(tmp_path, hospital.hl7_port):
        hospital.publish(answered(hospital.gateway, "once"), times=5)
        wait_until(lambda: hospital.results("once") == (1, 2) and hospital.reports("once"))
        wait_until(lambda: len(list(tmp_path.iterdir())) == 1)
        hospital.publish(answered(hospital.gateway, "after"))  # what is published later is delivered later
        wait_until(lambda: hospital.results("after") == (1, 2) and hospital.reports("after"))
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    assert hospital.results("once") == (1, 2)
    (report,) = hospital.reports("once")
    assert report["status"] == "preliminary"
    assert "Sample^once" in "".join(file.read_text() for file in tmp_path.iterdir())


def test_references_of_the_report_resolve_in_the_pacs(hospital: Hospital) -> None:
    (report,) = hospital.pacs.instances(uid("once"), "SR")
    known = {instance["MainDicomTags"]["SOPInstanceUID"] for instance in hospital.pacs.instances(uid("once"), "MR")}
    assert _referred(dcmread(io.BytesIO(hospital.pacs.file(report["ID"])))) == known


def test_revision_is_a_second_report_that_names_the_first(hospital: Hospital) -> None:
    hospital.publish(answered(hospital.gateway, "revised"))
    wait_until(lambda: hospital.results("revised") == (1, 2))
    hospital.publish(answered(hospital.gateway, "revised", revision="f" * 64, previous_revision="e" * 64))
    wait_until(lambda: hospital.results("revised") == (2, 4))
    reports = [
        dcmread(io.BytesIO(hospital.pacs.file(one["ID"]))) for one in hospital.pacs.instances(uid("revised"), "SR")
    ]
    (second,) = [report for report in reports if "PredecessorDocumentsSequence" in report]
    (first,) = [report for report in reports if report is not second]
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_destination_that_is_down_gets_its_result_later_and_holds_up_no_other(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.publish(answered(hospital.gateway, "down"))
    wait_until(lambda: hospital.results("down") == (1, 2) and hospital.reports("down"))
    assert not list(tmp_path.iterdir())
    with hl7_listener(tmp_path, hospital.hl7_port):
        wait_until(lambda: any("Sample^down" in file.read_text() for file in tmp_path.iterdir()))


def test_gateway_killed_while_it_delivers_delivers_once_when_it_is_back(hospital: Hospital, tmp_path: Path) -> None:
    event = answered(hospital.gateway, "reborn")
    hospital.publish(event)
    hospital.gateway.server.process.send_signal(signal.SIGKILL)
    hospital.gateway.server.process.wait()
    with (
        hl7_listener(tmp_path, hospital.hl7_port),
        hospital.start(hospital.gateway.bucket, **hospital.settings),
    ):
        wait_until(lambda: hospital.results("reborn") == (1, 2) and hospital.reports("reborn"))
        wait_until(lambda: any("Sample^reborn" in file.read_text() for file in tmp_path.iterdir()))
    assert len(hospital.reports("reborn")) == 1


def test_answer_that_is_not_taken_is_told_in_a_sentence_and_does_not_spoil_the_end(start: Start) -> None:
    project = f"refused-{uuid.uuid4().hex[:8]}"
    subscribe(project)
    with start(GOOGLE_CLOUD_PROJECT=project, HL7_DESTINATION=f"127.0.0.1:{free_port()}") as gateway:
        publish(project, answered(gateway, "refused"))
        wait_until(lambda: "The HL7 interface did not answer" in gateway.log.read_text())
        gateway.server.process.send_signal(signal.SIGINT)
        assert gateway.server.process.wait(60) == 0
    assert "Traceback" not in gateway.log.read_text()


def test_error_that_may_quote_a_header_is_told_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    def deliver(_: object) -> None:
        raise ValueError("Doe^Jane")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(ValueError, match="Doe"):
        patched.setattr(deliveries, "_result", lambda _: None)
        deliveries.handle(summarised([b"slice"]), "deliver-hl7", deliver)
    (record,) = caplog.records
    assert "Doe" not in str(vars(record))
    assert "deliver:" in record.place


def test_series_that_did_not_come_through_the_gateway_is_let_go() -> None:
    delivered: list = []
    deliveries.handle(summarised([b"slice"], source="upload"), "deliver-hl7", delivered.append)
    assert not delivered


def _referred(report: Dataset) -> set[str]:
    found = set()
    for item in report.get("ContentSequence", []):
        if item.ValueType == "IMAGE":
            found.add(str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        found |= _referred(item)
    return found
