"""scan-accepted -> the inference service's answer as a row in BigQuery, and scan-scored."""

import logging
from functools import cache
from http import HTTPStatus
from typing import Any

import functions_framework
import requests
from cloudevents.http import CloudEvent

from shared import config
from shared.clock import now, seconds_since
from shared.events import ScanAccepted, ScanScored, pushed
from shared.gcp import auth, bigquery, logs, pubsub
from shared.scan import SYNTHETIC, file_id_of

logs.configure()
logger = logging.getLogger(__name__)

_TIMEOUT_S = 30
_SHADOW_TIMEOUT_S = 5
"""A challenger that takes longer is not waited for."""
_CONNECTIONS = 64
"""As many as one instance takes requests at a time."""


@functions_framework.cloud_event
def score_scan(cloud_event: CloudEvent) -> None:
    """Score one scan. An answer other than 200 raises requests.HTTPError, so the scan is retried."""
    event = pushed(cloud_event.data)
    if not isinstance(event, ScanAccepted):
        raise TypeError(f"score_scan takes accepted scans, not {type(event).__name__}: see its subscription")
    answer = _predict(event)
    scored = _scored(event, answer)
    _record(event, answer, scored.predicted_at)
    pubsub.publish([scored])
    seconds = seconds_since(event.uploaded_at)
    if event.source != SYNTHETIC:  # people's scans are counted (terraform/monitoring.tf)
        logger.info("scored", extra={"scan_id": event.scan_id, "prediction": scored.prediction, "seconds": seconds})
    if answer.get("challenger_version"):
        _ask_challenger(event)


def _record(event: ScanAccepted, answer: dict[str, Any], predicted_at: str) -> None:
    """Append the row of an answer."""
    row = {name: answer[name] for name in ("model_version", "prediction", "probability", "threshold")} | {
        "scan_id": event.scan_id,
        "source": event.source,
        "role": answer.get("role", "champion"),
        "calibration": answer.get("calibration"),
        "uncertain": answer.get("uncertain"),
        "uploaded_at": event.uploaded_at,
        "predicted_at": predicted_at,
    }
    # BigQuery drops a second row of the same key for a minute: every upload of the same bytes has a row of its own.
    key = f"{event.scan_id}/{row['model_version']}/{row['role']}/{event.generation}"
    bigquery.append("predictions", row, key=key)


def _ask_challenger(event: ScanAccepted) -> None:
    """Record the challenger's answer in shadow. The scan has been answered: whatever fails here is logged alone."""
    try:
        response = _post("/v1/challenger", event, _SHADOW_TIMEOUT_S)
        if response.status_code == HTTPStatus.OK:
            _record(event, response.json(), now())
    except (requests.RequestException, bigquery.BigQueryError) as error:
        logger.warning("challenger not recorded", extra={"scan_id": event.scan_id, "error": type(error).__name__})


def _scored(event: ScanAccepted, answer: dict[str, Any]) -> ScanScored:
    types: dict[str, float] = answer.get("types") or {}
    return ScanScored(
        scan_id=event.scan_id,
        label=event.label,
        source=event.source,
        model_version=answer["model_version"],
        prediction=answer["prediction"],
        probability=answer["probability"],
        threshold=answer["threshold"],
        uploaded_at=event.uploaded_at,
        predicted_at=now(),
        study_id=event.study_id,
        series_id=event.series_id,
        tumour_type=max(types, key=lambda name: types[name]) if types else None,
        bucket=event.bucket,
        name=event.name,
        role=answer.get("role", "champion"),
        embedding=answer["embedding"],
    )


def _predict(event: ScanAccepted) -> dict[str, Any]:
    """Return the answer; slices of one series are answered by the same release."""
    unit = event.series_id or file_id_of(event.scan_id)
    response = _post("/v1/predict", event, _TIMEOUT_S, embedding="true", unit=unit)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def _post(path: str, event: ScanAccepted, timeout_s: float, **parameters: str) -> requests.Response:
    url, body = config.inference_url(), {"uri": f"gs://{event.bucket}/{event.name}"}
    asked = parameters | {"source": event.source}
    return _session(url).post(url + path, params=asked, json=body, timeout=timeout_s)


@cache
def _session(url: str) -> requests.Session:
    return auth.session(url, connections=_CONNECTIONS)
