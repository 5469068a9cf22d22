"""Results to an EMR as a FHIR R4 transaction."""

import os

import requests

from services.gateway.destinations import bounded
from services.gateway.destinations.errors import Undelivered
from services.gateway.results import Result
from shared.results.fhir import transaction

_TIMEOUT_S = 30


def deliver(result: Result, base_url: str) -> None:
    """Send the transaction. Raises Undelivered."""
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    if authorization := os.environ.get("FHIR_AUTHORIZATION"):
        headers["Authorization"] = authorization
    bundle = transaction(result.answer, result.headers[0])
    try:
        with bounded.session() as session:
            response = session.post(base_url, json=bundle, headers=headers, timeout=_TIMEOUT_S)
    except requests.RequestException as error:
        raise Undelivered(f"The FHIR server did not answer: {type(error).__name__}") from None
    if not response.ok:
        raise Undelivered(f"The FHIR server answered {response.status_code}.")
    _check_entries(response)


def _check_entries(response: requests.Response) -> None:
    """Raise Undelivered where an entry failed: some servers answer 200 all the same."""
    for entry in response.json().get("entry", []):
        status = str(entry.get("response", {}).get("status", "200"))
        if not status.startswith("2"):
            raise Undelivered(f"The FHIR server answered {status[:3]} to an entry.")
