"""The way back: into the study in the PACS, to the EMR and the HL7 interface, once, and again when one was down."""

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from google.cloud import pubsub_v1
from pydicom import dcmread

from local.hospital.counterparts import fhir_server
from local.hospital.hl7_listener import _Server as Listener
from local.hospital.tools import missing
from local.samples import encode, healthy_slices
from local.stack.processes import Supervisor, free_port
from local.stack.system import BUCKETS
from shared import config
from shared.events import SeriesSummarised
from shared.gcp import storage
from shared.pseudonyms import pseudonym
from shared.results.headers import read_header
from tests.services.gateway.conftest import Gateway, Pacs, Start
from tests.services.gateway.test_receiver import instances, send
from tests.support.series import slices, summarised
from tests.support.waiting import wait_until

Subscription = Callable[..., str]


def publish(project: str, event: SeriesSummarised, times: int = 1) -> None:
    publisher = pubsub_v1.PublisherClient()
    for _ in range(times):
        topic = f"projects/{project}/topics/series-summarised"
        publisher.publish(topic, event.to_json(), event=event.TOPIC).result()


def answered(gateway: Gateway, name: str, **changes: object) -> SeriesSummarised:
    """Send a series to the gateway; answers its summary, as the pipeline would publish it."""
    assert send(gateway, instances(name)[10:12]) == [0, 0]
    header = read_header(slices(name)[10])
    key = config.pseudonym_key()
    study, series = pseudonym(key, header.StudyInstanceUID), pseudonym(key, header.SeriesInstanceUID)
    names = [object_name for object_name in gateway.names() if study in object_name]
    event = summarised([storage.read(gateway.bucket, object_name) for object_name in names])
    for one in event.suspicious:
        storage.create(BUCKETS["scans"], one.name, encode(healthy_slices()[5], "PNG"), "image/png")
    facts = json.loads(event.to_json())
    return SeriesSummarised.from_json(json.dumps(facts | {"series_id": series, "study_id": study} | changes).encode())


def study_uid(name: str) -> str:
    return str(read_header(slices(name)[0]).StudyInstanceUID)


@pytest.fixture(scope="module")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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
    with Listener(port, directory) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_report_and_heat_maps_are_in_the_study_once(start: Start, pacs: Pacs, subscription: Subscription) -> None:
    project = subscription("deliver-dicom")
    for content in slices("pacs")[10:12]:
        pacs.store(content)
    with start(GOOGLE_CLOUD_PROJECT=project, DICOM_DESTINATION=pacs.peer) as gateway:
        publish(project, answered(gateway, "pacs"), times=5)
        wait_until(lambda: len(pacs.instances(study_uid("pacs"), "OT")) == 2)
        wait_until(lambda: not _backlog(project, "deliver-dicom"))
    (report,) = pacs.instances(study_uid("pacs"), "SR")
    assert len(pacs.instances(study_uid("pacs"), "OT")) == 2
    referred = _referred(dcmread(io.BytesIO(pacs.file(report["ID"]))))
    known = {instance["MainDicomTags"]["SOPInstanceUID"] for instance in pacs.instances(study_uid("pacs"), "MR")}
    assert referred == known


def test_results_come_by_stow_too(start: Start, pacs: Pacs, subscription: Subscription) -> None:
    project = subscription("deliver-dicomweb")
    dicomweb = f"{pacs.service.url}/dicom-web"
    with start(GOOGLE_CLOUD_PROJECT=project, DICOMWEB_DESTINATION=dicomweb) as gateway:
        publish(project, answered(gateway, "stow-out"))
        wait_until(lambda: len(pacs.instances(study_uid("stow-out"), "OT")) == 2)
        assert len(pacs.instances(study_uid("stow-out"), "SR")) == 1


def test_revision_is_a_second_report_that_names_the_first(start: Start, pacs: Pacs, subscription: Subscription) -> None:
    project = subscription("deliver-dicom")
    with start(GOOGLE_CLOUD_PROJECT=project, DICOM_DESTINATION=pacs.peer) as gateway:
        publish(project, answered(gateway, "revised"))
        wait_until(lambda: len(pacs.instances(study_uid("revised"), "SR")) == 1)
        publish(project, answered(gateway, "revised", revision="f" * 64, previous_revision="e" * 64))
        wait_until(lambda: len(pacs.instances(study_uid("revised"), "SR")) == 2)


def test_report_is_in_the_emr_once(start: Start, fhir: str, subscription: Subscription) -> None:
    project = subscription("deliver-fhir")
    with start(GOOGLE_CLOUD_PROJECT=project, FHIR_DESTINATION=fhir) as gateway:
        publish(project, answered(gateway, "emr"), times=3)
        wait_until(lambda: not _backlog(project, "deliver-fhir") and _reports(fhir))
    (report,) = _reports(fhir)
    assert report["status"] == "preliminary"
    assert report["subject"]["identifier"]["value"] == "SAMPLE-emr"


def test_message_is_acknowledged_and_kept(start: Start, subscription: Subscription, tmp_path: Path) -> None:
    project, port = subscription("deliver-hl7"), free_port()
    with (
        hl7_listener(tmp_path, port),
        start(GOOGLE_CLOUD_PROJECT=project, HL7_DESTINATION=f"127.0.0.1:{port}") as gateway,
    ):
        publish(project, answered(gateway, "hl7"), times=2)
        wait_until(lambda: not _backlog(project, "deliver-hl7") and list(tmp_path.iterdir()))
    (message,) = tmp_path.iterdir()
    assert "Sample^hl7" in message.read_text()


def test_destination_that_is_down_gets_its_result_later_and_holds_up_no_other(
    start: Start, pacs: Pacs, subscription: Subscription, tmp_path: Path
) -> None:
    project, port = subscription("deliver-dicom"), free_port()
    subscription("deliver-hl7")
    settings = {"DICOM_DESTINATION": pacs.peer, "HL7_DESTINATION": f"127.0.0.1:{port}"}
    with start(GOOGLE_CLOUD_PROJECT=project, **settings) as gateway:
        publish(project, answered(gateway, "down"))
        wait_until(lambda: len(pacs.instances(study_uid("down"), "SR")) == 1)
        assert not list(tmp_path.iterdir())
        with hl7_listener(tmp_path, port):
            wait_until(lambda: list(tmp_path.iterdir()))


def test_interface_that_refuses_is_asked_again_until_the_dead_letter(start: Start, subscription: Subscription) -> None:
    project = subscription("deliver-hl7", attempts=5)
    subscriber = pubsub_v1.SubscriberClient()
    buried = f"projects/{project}/subscriptions/buried"
    subscriber.create_subscription(name=buried, topic=f"projects/{project}/topics/dead")
    with (
        _refusing() as port,
        start(GOOGLE_CLOUD_PROJECT=project, HL7_DESTINATION=f"127.0.0.1:{port}") as gateway,
    ):
        event = answered(gateway, "refused")
        publish(project, event)
        found: list = []
        wait_until(lambda: found.extend(_pulled(subscriber, buried)) or found)
    assert SeriesSummarised.from_json(found[0].message.data) == event
    subscriber.close()


def test_series_that_did_not_come_through_the_gateway_is_let_go(start: Start, subscription: Subscription) -> None:
    project = subscription("deliver-hl7", attempts=5)
    with start(GOOGLE_CLOUD_PROJECT=project, HL7_DESTINATION="127.0.0.1:9"):
        publish(project, summarised([b"slice"], source="upload"))
        wait_until(lambda: not _backlog(project, "deliver-hl7"))


@contextmanager
def _refusing() -> Iterator[int]:
    """An HL7 interface that answers every message with AE."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AE|1\r\x1c\r")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


def _pulled(subscriber: pubsub_v1.SubscriberClient, path: str) -> list:
    return list(subscriber.pull(subscription=path, max_messages=1, return_immediately=True).received_messages)


def _backlog(project: str, name: str) -> bool:
    """Whether a message waits to be delivered: it is put back at once."""
    with pubsub_v1.SubscriberClient() as subscriber:
        path = f"projects/{project}/subscriptions/{name}"
        waiting = _pulled(subscriber, path)
        for one in waiting:
            subscriber.modify_ack_deadline(subscription=path, ack_ids=[one.ack_id], ack_deadline_seconds=0)
    return bool(waiting)


def _reports(fhir: str) -> list[dict]:
    entries = requests.get(f"{fhir}/DiagnosticReport", timeout=60).json().get("entry") or []
    return [entry["resource"] for entry in entries]


def _referred(report) -> set[str]:
    found = set()
    for item in report.get("ContentSequence", []):
        if item.ValueType == "IMAGE":
            found.add(str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        found |= _referred(item)
    return found
