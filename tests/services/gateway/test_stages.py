"""The gateway killed by SIGKILL at each stage of its work: nothing acknowledged is lost, nothing is there twice."""

import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from local.stack.processes import free_port
from services.gateway import receiver
from services.gateway.settings import Settings
from tests.benchmarks.hospital_sender import Sender, message
from tests.chaos.proxy import Fault
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.systems import Pacs, Systems, hl7_listener
from tests.services.gateway.test_deliveries import DESTINATIONS, answered, publish, subscribe, uid
from tests.services.gateway.test_receiver import SUCCESS, instances, send
from tests.support.waiting import wait_until


def kill(gateway: Gateway) -> None:
    gateway.server.process.send_signal(signal.SIGKILL)
    gateway.server.process.wait()


def send_one_and_a_half(sender: Sender, datasets: list) -> None:
    """Store the first object, and send half of the second."""
    assert sender.store(message(datasets[0], 1, sender.pdu_bytes)) == SUCCESS
    whole = message(datasets[1], 2, sender.pdu_bytes)
    sender.send(whole[: len(whole) // 2])


def test_connection_that_ends_inside_an_object_leaves_nothing_half(gateway: Gateway) -> None:
    datasets = instances("half")[:3]
    sender = Sender(gateway.dicom_port, datasets[0])
    send_one_and_a_half(sender, datasets)
    sender.abort()
    assert send(gateway, datasets) == [SUCCESS] * 3
    assert len(gateway.names("half")) == 3


def test_connection_that_stops_inside_an_object_does_not_stay_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_PORT", str(free_port()))
    monkeypatch.setattr(receiver, "_IDLE_S", 0.5)
    settings, (dataset,) = Settings.from_environment(), instances("stalled")[:1]
    server = receiver.start(settings, None)
    try:
        sender = Sender(settings.dicom_port, dataset)
        whole = message(dataset, 1, sender.pdu_bytes)
        sender.send(whole[: len(whole) // 2])
        assert server.active_associations
        wait_until(lambda: not server.active_associations)
    finally:
        server.shutdown()


def test_gateway_killed_inside_an_object_has_lost_nothing_acknowledged(start: Start, gateway: Gateway) -> None:
    datasets = instances("inside")[:3]
    with start(gateway.bucket) as victim:
        sender = Sender(victim.dicom_port, datasets[0])
        send_one_and_a_half(sender, datasets)
        kill(victim)
    assert len(gateway.names("inside")) == 1
    assert send(gateway, datasets) == [SUCCESS] * 3
    assert len(gateway.names("inside")) == 3


def test_gateway_killed_between_storing_and_acknowledging_stores_once(start: Start, gateway: Gateway) -> None:
    datasets = instances("between")[:1]
    with start(gateway.bucket) as victim:
        sender = Sender(victim.dicom_port, datasets[0])
        sender.send(message(datasets[0], 1, sender.pdu_bytes))
        wait_until(lambda: gateway.names("between"), pause_s=0.001)
        kill(victim)
    assert send(gateway, datasets) == [SUCCESS]
    assert len(gateway.names("between")) == 1


@contextmanager
def inference(reached: threading.Event) -> Iterator[str]:
    """An inference service that takes a request and never answers."""

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reached.set()
            self.rfile.read()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.shutdown, daemon=True).start()


@contextmanager
def silent_pacs(reached: threading.Event) -> Iterator[str]:
    """A PACS that takes an object and never answers."""
    ended = threading.Event()

    def store(_: evt.Event) -> int:
        reached.set()
        ended.wait()
        return 0xA700

    entity = AE(ae_title="ORTHANC")
    for storage_class in ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"):
        entity.add_supported_context(storage_class)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield f"ORTHANC@127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()


@contextmanager
def silent_port(reached: threading.Event) -> Iterator[int]:
    """A listener that takes a message or request and never answers."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                reached.set()
                ended.wait()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        ended.set()


@contextmanager
def held_at(stage: str, reached: threading.Event) -> Iterator[dict[str, str]]:
    """Settings by which the gateway waits at a stage of its delivery."""
    match stage:
        case "heat map":
            with inference(reached) as url:
                yield {"INFERENCE_URL": url}
        case "C-STORE":
            with silent_pacs(reached) as peer:
                yield {"DICOM_DESTINATION": peer}
        case "FHIR":
            with silent_port(reached) as port:
                yield {"FHIR_DESTINATION": f"http://127.0.0.1:{port}"}
        case _:
            with silent_port(reached) as port:
                yield {"HL7_DESTINATION": f"127.0.0.1:{port}"}


@pytest.mark.drill
@pytest.mark.parametrize("stage", ["heat map", "C-STORE", "FHIR", "HL7"])
def test_gateway_killed_while_a_destination_is_at_work_delivers_once_when_it_is_back(
    start: Start, pacs: Pacs, fhir: str, tmp_path: Path, stage: str
) -> None:
    name, project, port = f"stage-{uuid.uuid4().hex[:6]}", f"stages-{uuid.uuid4().hex[:8]}", free_port()
    subscribe(project)
    own = {"GOOGLE_CLOUD_PROJECT": project, "DICOM_DESTINATION": pacs.peer, "FHIR_DESTINATION": fhir}
    own["HL7_DESTINATION"] = f"127.0.0.1:{port}"
    reached = threading.Event()
    with held_at(stage, reached) as held, start(**own | held) as victim:
        publish(project, answered(victim, name))
        assert reached.wait(120)
        kill(victim)
    with hl7_listener(tmp_path, port), start(victim.bucket, **own):
        wait_until(lambda: len(pacs.instances(uid(name), "SR")) == 1 and len(pacs.instances(uid(name), "OT")) == 2)
        wait_until(lambda: len(list(tmp_path.iterdir())) == 1)
    assert len(pacs.instances(uid(name), "SR")) == 1


@pytest.mark.drill
@pytest.mark.parametrize("destination", DESTINATIONS)
def test_gateway_killed_before_it_hears_that_a_result_was_taken_leaves_one(
    start: Start, fallible: Systems, destination: str
) -> None:
    name, project = f"unheard-{uuid.uuid4().hex[:6]}", f"unheard-{uuid.uuid4().hex[:8]}"
    subscribe(project)
    settings = fallible.settings(project)
    with fallible.failing(Fault.WITHHELD, destination), start(**settings) as victim:
        publish(project, answered(victim, name))
        wait_until(lambda: fallible.reports(destination, name))
        kill(victim)
        assert destination not in victim.delivered()
    with start(victim.bucket, **settings) as reborn:
        wait_until(lambda: destination in reborn.delivered())
        wait_until(lambda: all(fallible.has_all_of(one, name) for one in DESTINATIONS))
    assert [fallible.reports(one, name) for one in DESTINATIONS] == [1] * 4
