"""The way back: a subscription for each destination, so that one that is down holds up none of the others."""

import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from services.gateway.destinations.errors import Undelivered
from services.gateway.inbox import SOURCE
from services.gateway.settings import Settings
from shared.events import Event, SeriesSummarised
from shared.gcp.storage import StorageError
from shared.results.headers import NoStudy

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from services.gateway.results import Result

Deliver = Callable[["Result"], None]
_reading = threading.Lock()
"""Held while headers are read: the destinations get an answer at the same moment, and one of them reads for all."""


def destinations(settings: Settings) -> Mapping[str, Deliver]:
    """Return the configured destinations by the name of their subscription.

    What makes and sends results is imported for those alone: a gateway that only receives starts in half the time.
    """
    configured: dict[str, Deliver] = {}
    if not settings.has_destination:
        return configured
    from services.gateway.destinations import dicom, dicomweb, fhir, hl7  # noqa: PLC0415

    if settings.dicom_destination:
        to = settings.dicom_destination
        configured["deliver-dicom"] = partial(dicom.deliver, settings=settings, destination=to)
    if settings.dicomweb_destination:
        configured["deliver-dicomweb"] = partial(dicomweb.deliver, base_url=settings.dicomweb_destination)
    if settings.fhir_destination:
        configured["deliver-fhir"] = partial(fhir.deliver, base_url=settings.fhir_destination)
    if settings.hl7_destination:
        configured["deliver-hl7"] = partial(hl7.deliver, address=settings.hl7_destination)
    return configured


def handle(event: Event, name: str, deliver: Deliver) -> None:
    """Deliver one answer. Whatever goes wrong propagates, and Pub/Sub delivers the answer again."""
    if not isinstance(event, SeriesSummarised) or event.source != SOURCE:
        return  # a series that reached the bucket another way has no study to return to
    try:
        with _reading:
            result = _result(event.to_json())
        deliver(result)
    except BaseException as error:
        logger.warning("not delivered", extra={"destination": name, "error": type(error).__name__} | _reason(error))
        raise
    logger.info("delivered", extra={"destination": name, "series_id": event.series_id, "revision": event.revision})


def _reason(error: BaseException) -> dict[str, str]:
    """Return why, in a sentence of ours; of any other error the place alone, since its message may quote a header."""
    if isinstance(error, Undelivered | NoStudy | StorageError):
        return {"reason": str(error)}
    place = traceback.extract_tb(error.__traceback__)[-1]
    return {"place": f"{place.name}:{place.lineno}"}


@lru_cache(maxsize=8)
def _result(answer: bytes) -> "Result":
    """Return one result for all destinations: its headers are read once."""
    from services.gateway.results import Result  # noqa: PLC0415

    return Result(SeriesSummarised.from_json(answer))
