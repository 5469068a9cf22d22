"""Results to a PACS by C-STORE."""

from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association

from services.gateway.destinations.errors import Undelivered
from services.gateway.receiver import no_delay
from services.gateway.results import Result
from services.gateway.settings import Peer, Settings, tls_to_destination

_TIMEOUT_S = 30
_KINDS = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)


def deliver(result: Result, settings: Settings, destination: Peer) -> None:
    """Store every object of a result, each as soon as it is made. Raises Undelivered."""
    entity = AE(ae_title=settings.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _TIMEOUT_S
    for kind in _KINDS:
        entity.add_requested_context(kind, ExplicitVRLittleEndian)
    association = _associated(entity, destination)
    try:
        for item in result.objects:
            _store(association, item, destination.ae_title)
    finally:
        association.release()


def _store(association: Association, item: Dataset, title: str) -> None:
    if not association.is_established:
        raise Undelivered(f"{title} ended the association.")
    if item.SOPClassUID not in {context.abstract_syntax for context in association.accepted_contexts}:
        raise Undelivered(f"{title} does not take {item.SOPClassUID.name}.")
    status = association.send_c_store(item).get("Status")
    # Warnings (PS3.4 B.2.3) mean that it was stored.
    if status is None or (status != 0 and status >> 12 != 0xB):
        raise Undelivered(f"{title} answered {status} to C-STORE.")


def _associated(entity: AE, destination: Peer) -> Association:
    context = tls_to_destination()
    association = entity.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        tls_args=(context, destination.host) if context else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: no_delay(event.assoc))],
    )
    if not association.is_established:
        raise Undelivered(f"{destination.ae_title} did not take the association.")
    return association
