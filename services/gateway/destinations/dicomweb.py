"""Results to a PACS by STOW-RS."""

import os

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset

from services.gateway.destinations import bounded
from services.gateway.destinations.errors import Undelivered
from services.gateway.results import Result

_TIMEOUT_S = 30


def deliver(result: Result, base_url: str) -> None:
    """Store every object of a result, each as soon as it is made. Raises Undelivered."""
    authorization = os.environ.get("DICOMWEB_AUTHORIZATION")
    headers = {"Authorization": authorization} if authorization else None
    for item in result.objects:
        with bounded.session() as session:
            client = DICOMwebClient(base_url, session, headers=headers, timeout=_TIMEOUT_S)
            client.set_http_retry_params(retry=False)  # Pub/Sub does that
            _store(client, item)


def _store(client: DICOMwebClient, item: Dataset) -> None:
    try:
        answer = client.store_instances([item])
    except (requests.RequestException, OSError) as error:
        raise Undelivered(f"STOW-RS failed: {type(error).__name__}") from None  # the message may quote an object
    if answer.get("FailedSOPSequence"):
        raise Undelivered("The PACS did not take an object that it was sent by STOW-RS.")
