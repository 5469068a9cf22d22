"""Results to a PACS by C-STORE."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association

from services.gateway.destinations.bounded import ending
from services.gateway.destinations.errors import Undelivered
from services.gateway.receiver import connection_of, no_delay
from services.gateway.results import Result
from services.gateway.settings import Peer, Settings, tls_to_destination

_TIMEOUT_S = 30
_WITHIN_S = 120
"""Of an association, explanations of heat maps included: pynetdicom waits for ever for the rest of an answer."""
_KINDS = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)


def deliver(result: Result, settings: Settings, destination: Peer) -> None:
    """Store every object of a result, each as soon as it is made. Raises Undelivered."""
    entity = AE(ae_title=settings.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _TIMEOUT_S
    for kind in _KINDS:
        entity.add_requested_context(kind, ExplicitVRLittleEndian)
    with _associated(entity, destination) as association:
        for item in result.objects:
            _store(association, item, destination.ae_title)


def _store(association: Association, item: Dataset, title: str) -> None:
    if not association.is_established:
        raise Undelivered(f"{title} ended the association.")
    if item.SOPClassUID not in {context.abstract_syntax for context in association.accepted_contexts}:
        raise Undelivered(f"{title} does not take {item.SOPClassUID.name}.")
    status = association.send_c_store(item).get("Status")
    # Warnings (PS3.4 B.2.3) mean that it was stored.
    if status is None or (status != 0 and status >> 12 != 0xB):
        raise Undelivered(f"{title} answered {status} to C-STORE.")


@contextmanager
def _associated(entity: AE, destination: Peer) -> Iterator[Association]:
    context = tls_to_destination()
    timers: list[Timer] = []

    def opened(event: evt.Event) -> None:
        no_delay(event.assoc)
        if connection := connection_of(event.assoc):
            timers.append(ending(connection, _WITHIN_S))

    association = entity.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        tls_args=(context, destination.host) if context else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, opened)],
    )
    try:
        if not association.is_established:
            raise Undelivered(f"{destination.ae_title} did not take the association.")
        yield association
    finally:
        association.release()
        for timer in timers:
            timer.cancel()
