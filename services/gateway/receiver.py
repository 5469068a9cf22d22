"""The C-STORE and C-ECHO receiver. Success is answered only once the object is durable in the uploads bucket."""

import logging
import socket
import ssl
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
_MAX_ASSOCIATIONS = 32
"""Each holds one object in memory; a sender beyond them is refused and comes again."""
_PDU_BYTES = 128 * 1024
_IDLE_S = 60


def start(settings: Settings, context: ssl.SSLContext | None) -> ThreadedAssociationServer:
    """Listen until the answer's `shutdown` is called."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage class, a manufacturer's own included
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_associations = _MAX_ASSOCIATIONS
    entity.maximum_pdu_size = _PDU_BYTES
    entity.network_timeout = _IDLE_S
    entity.require_calling_aet = [peer.ae_title for peer in settings.peers]
    for storage_class in AllStoragePresentationContexts:
        entity.add_supported_context(str(storage_class.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, _opened, [settings.peers]),
        (evt.EVT_C_STORE, _stored),
        (evt.EVT_C_ECHO, lambda _: _SUCCESS),
    ]
    address = (settings.dicom_host, settings.dicom_port)
    server = entity.start_server(address, block=False, ssl_context=context, evt_handlers=handlers)
    return cast(ThreadedAssociationServer, server)  # it is None only for a server that blocks


def _opened(event: Event, peers: tuple[Peer, ...]) -> None:
    """Close connections of strangers."""
    no_delay(event.assoc)
    hosts = {socket.gethostbyname(peer.host) for peer in peers if peer.host}
    if hosts and all(peer.host for peer in peers) and _address(event) not in hosts:
        logger.warning("refused a caller from an address that is not in DICOM_PEERS")
        event.assoc.abort()


def no_delay(association: Association) -> None:
    """Send an association's small messages at once: Nagle's algorithm holds them back for 40 ms."""
    transport = association.dul.socket
    if transport and transport.socket:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _address(event: Event) -> str:
    address: tuple[str, int] = event.address  # type: ignore[attr-defined] # of this kind of event alone
    return address[0]


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
    header = inbox.header_of(event.encoded_dataset())
    return Instance(header, event.encoded_dataset(include_meta=False), str(event.context.transfer_syntax))
