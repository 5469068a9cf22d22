"""The C-STORE and C-ECHO receiver. Success is answered only once the object is durable in the uploads bucket."""

import logging
import socket
import ssl
import threading
from socketserver import BaseServer
from typing import Any, cast

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import
from pynetdicom.transport import ThreadedAssociationServer

from services.gateway import inbox
from services.gateway.inbox import Instance, Unidentified
from services.gateway.settings import Peer, Settings
from shared.gcp.storage import StorageError

logger = logging.getLogger(__name__)

_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700
"""PS3.4 B.2.3: the sender keeps the object and tries again."""
_CANNOT_UNDERSTAND = 0xC000
_STRANGER = (0x01, 0x01, 0x03)
"""PS3.8 table 9-21: for good, by the service user, calling AE title not recognised."""
_MAX_ASSOCIATIONS = 32
"""Each holds one object in memory; a sender beyond them is refused and comes again."""
_PDU_BYTES = 128 * 1024
_IDLE_S = 60
_HANDSHAKE_S = 30


def start(settings: Settings, context: ssl.SSLContext | None) -> ThreadedAssociationServer:
    """Listen until the answer's `shutdown` is called."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage class, a manufacturer's own included
    _config.LOG_HANDLER_LEVEL = "none"  # its messages quote headers: not worth their time, and never to be logged
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_associations = _MAX_ASSOCIATIONS
    entity.maximum_pdu_size = _PDU_BYTES
    entity.network_timeout = _IDLE_S
    for storage_class in AllStoragePresentationContexts:
        entity.add_supported_context(str(storage_class.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, _opened),
        (evt.EVT_REQUESTED, _requested, [settings.peers]),
        (evt.EVT_C_STORE, _stored),
        (evt.EVT_C_ECHO, lambda _: _SUCCESS),
    ]
    address = (settings.dicom_host, settings.dicom_port)
    server = entity.make_server(address, ssl_context=context, evt_handlers=handlers, server_class=_Server)
    threading.Thread(target=server.serve_forever, name="C-STORE receiver", daemon=True).start()
    return server


class _Server(ThreadedAssociationServer):
    """Greets each TLS caller in that caller's own thread: one that says nothing holds up no other."""

    def shutdown(self) -> None:
        """Take no more callers; pynetdicom's own method looks for the server among those that it started itself."""
        BaseServer.shutdown(self)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next connection; pynetdicom's own waits here until the caller has shown its certificate."""
        connection, address = cast(socket.socket, self.socket).accept()
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int] | str
    ) -> None:
        """Serve a connection once its handshake is done."""
        if isinstance(request, ssl.SSLSocket) and not _greeted(request):
            logger.warning("refused a caller whose TLS handshake failed")
            self.shutdown_request(request)
        else:
            super().process_request_thread(request, client_address)


def _greeted(connection: ssl.SSLSocket) -> bool:
    patience = connection.gettimeout()
    try:
        connection.settimeout(_HANDSHAKE_S)
        connection.do_handshake()
        connection.settimeout(patience)
    except OSError:  # ssl.SSLError too
        return False
    return True


def _requested(event: Event, peers: tuple[Peer, ...]) -> None:
    """Reject associations of strangers: each peer's title counts from its own address alone."""
    caller = event.assoc.requestor
    title = caller.primitive.calling_ae_title if caller.primitive else None
    called = [peer for peer in peers if peer.ae_title == (title or "").strip()]
    if peers and not any(_lives_at(peer, str(caller.address)) for peer in called):
        logger.warning("rejected a caller that is not in DICOM_PEERS")
        event.assoc.acse.send_reject(*_STRANGER)


def _lives_at(peer: Peer, address: str) -> bool:
    """Return whether a caller at an address may be that peer; one whose host nobody knows may be nobody."""
    if not peer.host:
        return True
    try:
        return address in {found[4][0] for found in socket.getaddrinfo(peer.host, None)}
    except OSError:
        return False


def _opened(event: Event) -> None:
    """Ready a caller's connection. One that stops inside an object ends as idle ones do: pynetdicom waits for ever."""
    no_delay(event.assoc)
    if connection := connection_of(event.assoc):
        connection.settimeout(_IDLE_S)


def no_delay(association: Association) -> None:
    """Send an association's small messages at once: Nagle's algorithm holds them back for 40 ms."""
    if connection := connection_of(association):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connection_of(association: Association) -> socket.socket | None:
    """Return the caller's connection; None where it has ended already."""
    transport = association.dul.socket
    return transport.socket if transport else None


def _stored(event: Event) -> int:
    try:
        outcome = inbox.keep(_instance(event))
    except Unidentified:
        logger.warning("refused an object without its UIDs")
        return _CANNOT_UNDERSTAND
    except StorageError as error:
        logger.error("could not store an object", extra={"error": str(error)})
        return _OUT_OF_RESOURCES
    logger.debug("received", extra={"outcome": outcome.name})
    return _SUCCESS


def _instance(event: Event) -> Instance:
    """Return the object without decoding it beyond its UIDs. Raises Unidentified."""
    return Instance.of_dataset(event.encoded_dataset(include_meta=False), str(event.context.transfer_syntax))
