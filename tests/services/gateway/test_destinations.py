"""What a destination answers decides: only a result that it took on counts as delivered."""

import itertools
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from pydicom import Dataset
from pynetdicom import AE, evt

from services.gateway.destinations import bounded, dicom, dicomweb, fhir, hl7
from services.gateway.destinations.errors import Undelivered
from services.gateway.settings import BadSetting, Peer, Settings
from shared.events import SeriesSummarised
from shared.results.headers import read_header
from shared.results.hl7 import control_id
from shared.results.structured_report import structured_report
from tests.support.series import slices, summarised


@dataclass
class Made:
    """A result whose objects are made already."""

    answer: SeriesSummarised
    headers: list[Dataset]
    objects: Iterable[Dataset]


@pytest.fixture(scope="module")
def result() -> Made:
    files = slices()[10:11]
    answer, headers = summarised(files), [read_header(file) for file in files]
    return Made(answer, headers, [structured_report(answer, headers)])


@contextmanager
def interface(answer: bytes) -> Iterator[tuple[str, int]]:
    """An HL7 interface that answers every message with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()


def acknowledgement(code: str, of: str) -> bytes:
    return f"\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|{code}|{of}\r\x1c\r".encode()


def test_acknowledgement_that_comes_byte_by_byte_is_waited_for(result: Made) -> None:
    content = acknowledgement("AA", control_id(result.answer))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(65_536)
                for byte in content:
                    connection.sendall(bytes([byte]))

        threading.Thread(target=serve, daemon=True).start()
        hl7.deliver(result, server.getsockname())


def test_destination_that_never_answers_is_no_delivery(result: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dicom, dicomweb, fhir, hl7):
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with pytest.raises(Undelivered):
            hl7.deliver(result, (host, port))
        with pytest.raises(Undelivered):
            fhir.deliver(result, f"http://{host}:{port}")
        with pytest.raises(Undelivered):
            dicomweb.deliver(result, f"http://{host}:{port}")
        with pytest.raises(Undelivered):
            dicom.deliver(result, Settings.from_environment(), Peer("PACS", host, port))


@contextmanager
def slow(answer: Iterable[bytes], pause_s: float) -> Iterator[tuple[str, int]]:
    """A server that sends an answer part by part to whoever connects, pausing before each, and then says no more."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65_536)
            for part in answer:
                if ended.wait(pause_s):
                    return
                connection.sendall(part)
            ended.wait()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()
        ended.set()


def taken(kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


FHIR, STOW = taken("application/fhir+json", b'{"entry": []}'), taken("application/dicom+json", b"{}")
ASSOCIATION = b"\x02\x00\x00\x00\x00\xff" + b"\x00" * 255
"""The first bytes of A-ASSOCIATE-AC (PS3.8 9.3.3), long enough to trickle."""


def send_to(destination: str, result: Made, address: tuple[str, int]) -> None:
    match destination:
        case "hl7":
            hl7.deliver(result, address)
        case "fhir":
            fhir.deliver(result, "http://{}:{}".format(*address))
        case "dicomweb":
            dicomweb.deliver(result, "http://{}:{}".format(*address))
        case "dicom":
            dicom.deliver(result, Settings.from_environment(), Peer("PACS", *address))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of silence, a second in all."""
    for module in (dicom, dicomweb, fhir, hl7):
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
    for module in (bounded, dicom):
        monkeypatch.setattr(module, "_WITHIN_S", 1)


def answer_of(destination: str, result: Made) -> bytes:
    code = acknowledgement("AA", control_id(result.answer))
    return {"hl7": code, "fhir": FHIR, "dicomweb": STOW, "dicom": ASSOCIATION}[destination]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("destination", ["dicom", "dicomweb", "fhir", "hl7"])
def test_answer_that_trickles_for_ever_is_no_delivery(result: Made, impatient: None, destination: str) -> None:
    """Each byte comes long before the destination could be called silent."""
    answer = answer_of(destination, result)
    with (
        slow((bytes([byte]) for byte in itertools.chain(answer[:-1], itertools.repeat(answer[-2]))), 0.1) as address,
        pytest.raises(Undelivered),
    ):
        send_to(destination, result, address)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("destination", ["dicom", "dicomweb", "fhir", "hl7"])
def test_half_an_answer_is_no_delivery(result: Made, impatient: None, destination: str) -> None:
    answer = answer_of(destination, result)
    with slow([answer[: len(answer) // 2]], 0) as address, pytest.raises(Undelivered):
        send_to(destination, result, address)


@pytest.mark.parametrize("destination", ["dicomweb", "fhir", "hl7"])
def test_answer_that_comes_late_but_in_time_is_a_delivery(result: Made, destination: str) -> None:
    with slow([answer_of(destination, result)], 1) as address:
        send_to(destination, result, address)


def test_message_that_is_taken_on_is_delivered(result: Made) -> None:
    with interface(acknowledgement("AA", control_id(result.answer))) as address:
        hl7.deliver(result, address)


@pytest.mark.parametrize(
    ("code", "of"), [("AE", ""), ("AR", ""), ("AA", "another"), ("", "")], ids=["error", "reject", "other", "empty"]
)
def test_message_that_is_not_taken_on_is_not(result: Made, code: str, of: str) -> None:
    with (
        interface(acknowledgement(code, of or control_id(result.answer))) as address,
        pytest.raises(Undelivered),
    ):
        hl7.deliver(result, address)


@pytest.mark.parametrize("answer", [b"", b"\x0b", b"garbage\x1c\r", b"\xff\xfe\x1c\r"])
def test_answer_that_is_no_hl7_is_no_delivery(result: Made, answer: bytes) -> None:
    with interface(answer) as address, pytest.raises(Undelivered):
        hl7.deliver(result, address)


def test_nobody_there_is_no_delivery(result: Made) -> None:
    settings = Settings.from_environment()
    with pytest.raises(Undelivered):
        hl7.deliver(result, ("127.0.0.1", 9))
    with pytest.raises(Undelivered):
        fhir.deliver(result, "http://127.0.0.1:9")
    with pytest.raises(Undelivered):
        dicomweb.deliver(result, "http://127.0.0.1:9")
    with pytest.raises(Undelivered):
        dicom.deliver(result, settings, Peer("PACS", "127.0.0.1", 9))


REPORT, IMAGE = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"


@contextmanager
def pacs(
    status: int, kinds: Sequence[str] = (REPORT, IMAGE), callers: Sequence[str] = ()
) -> Iterator[tuple[Peer, list[str]]]:
    """A PACS that answers every C-STORE with one status, and the instances that it was sent."""
    sent: list[str] = []

    def store(event: evt.Event) -> int:
        sent.append(event.request.AffectedSOPInstanceUID)
        return status

    entity = AE(ae_title="PACS")
    entity.require_calling_aet = list(callers)
    for kind in kinds:
        entity.add_supported_context(kind)
    running = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield Peer("PACS", "127.0.0.1", running.server_address[1]), sent
    finally:
        running.shutdown()


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006])
def test_success_and_warnings_of_the_pacs_are_a_delivery(result: Made, status: int) -> None:
    with pacs(status) as (peer, _):
        dicom.deliver(result, Settings.from_environment(), peer)


@pytest.mark.parametrize("status", [0x0122, 0xA700, 0xA900, 0xC000, 0xFE00])
def test_refusal_of_the_pacs_is_no_delivery(result: Made, status: int) -> None:
    with pacs(status) as (peer, _), pytest.raises(Undelivered, match=str(status)):
        dicom.deliver(result, Settings.from_environment(), peer)


def test_pacs_that_takes_no_reports_is_told_so(result: Made) -> None:
    with pacs(0, (IMAGE,)) as (peer, _), pytest.raises(Undelivered, match="Comprehensive SR"):
        dicom.deliver(result, Settings.from_environment(), peer)


def test_pacs_that_does_not_know_the_gateway_is_no_delivery(result: Made) -> None:
    with pacs(0, callers=("ANOTHER",)) as (peer, _), pytest.raises(Undelivered, match="association"):
        dicom.deliver(result, Settings.from_environment(), peer)


def test_report_is_sent_before_the_heat_maps_are_made(result: Made) -> None:
    def unexplained() -> Iterator[Dataset]:
        yield from result.objects
        raise requests.ConnectionError

    half = Made(result.answer, result.headers, unexplained())
    with pacs(0) as (peer, sent), pytest.raises(requests.ConnectionError):
        dicom.deliver(half, Settings.from_environment(), peer)
    assert sent == [str(one.SOPInstanceUID) for one in result.objects]


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A web server that answers every POST alike."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/dicom+json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("status", [400, 401, 422, 500, 503])
def test_refusal_of_the_fhir_server_is_no_delivery(result: Made, status: int) -> None:
    with server(status, b"{}") as url, pytest.raises(Undelivered, match=str(status)):
        fhir.deliver(result, url)


def test_entry_that_failed_in_a_transaction_that_did_not_is_no_delivery(result: Made) -> None:
    body = b'{"entry": [{"response": {"status": "201"}}, {"response": {"status": "412 Precondition Failed"}}]}'
    with server(200, body) as url, pytest.raises(Undelivered, match="412"):
        fhir.deliver(result, url)


def test_failed_sequence_is_no_delivery_and_an_empty_one_is_a_delivery(result: Made) -> None:
    with server(200, b'{"00081198": {"vr": "SQ"}}') as url:
        dicomweb.deliver(result, url)
    failed = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'
    with server(202, failed) as url, pytest.raises(Undelivered):
        dicomweb.deliver(result, url)


def test_settings_are_read_and_wrong_ones_say_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_PEERS", "MRI-1@10.0.0.7, MRI-2")
    monkeypatch.setenv("DICOM_DESTINATION", "PACS@pacs.local:104")
    monkeypatch.setenv("HL7_DESTINATION", "emr.local:2575")
    settings = Settings.from_environment()
    assert settings.peers == (Peer("MRI-1", "10.0.0.7"), Peer("MRI-2"))
    assert settings.dicom_destination == Peer("PACS", "pacs.local", 104)
    assert settings.hl7_destination == ("emr.local", 2575)
    assert settings.dicom_host == "0.0.0.0"  # noqa: S104 - callers are restricted
    for name, value in (("DICOM_DESTINATION", "PACS"), ("HL7_DESTINATION", "emr.local"), ("DICOM_PEERS", "x" * 17)):
        with monkeypatch.context() as wrong, pytest.raises(BadSetting, match="write"):
            wrong.setenv(name, value)
            Settings.from_environment()


def test_without_peers_and_token_only_this_machine_may_send(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DICOM_PEERS", "DICOMWEB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_environment()
    assert (settings.dicom_host, settings.http_host) == ("127.0.0.1", "127.0.0.1")
