"""scan-accepted -> the inference service's answer as a row in BigQuery, and scan-scored."""

import logging
from functools import cache
from typing import Any

import functions_framework
import requests
from cloudevents.http import CloudEvent

from shared import config
from shared.clock import now, seconds_since
from shared.events import ScanAccepted, ScanScored, pushed
from shared.gcp import auth, bigquery, logs, pubsub

logs.configure()
logger = logging.getLogger(__name__)

_TIMEOUT_S = 30
_CONNECTIONS = 64
"""As many as one instance takes requests at a time."""


@functions_framework.cloud_event
def score_scan(cloud_event: CloudEvent) -> None:
    """Score one scan. An answer other than 200 raises requests.HTTPError, so the scan is retried."""
    event = pushed(cloud_event.data)
    if not isinstance(event, ScanAccepted):
        raise TypeError(f"score_scan takes accepted scans, not {type(event).__name__}: see its subscription")
    answer = _predict(f"gs://{event.bucket}/{event.name}", event.source)
    scored = _scored(event, answer)
    columns = ("scan_id", "model_version", "prediction", "probability", "threshold", "uploaded_at", "predicted_at")
    row = {name: getattr(scored, name) for name in columns} | {"calibration": answer.get("calibration")}
    bigquery.append("predictions", row, key=f"{scored.scan_id}/{scored.model_version}")
    pubsub.publish([scored])
    seconds = seconds_since(event.uploaded_at)
    logger.info("scored", extra={"scan_id": event.scan_id, "prediction": scored.prediction, "seconds": seconds})


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
        embedding=answer["embedding"],
    )


def _predict(uri: str, source: str) -> dict[str, Any]:
    url, asked = config.inference_url(), {"embedding": "true", "source": source}
    response = _session(url).post(f"{url}/v1/predict", params=asked, json={"uri": uri}, timeout=_TIMEOUT_S)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


@cache
def _session(url: str) -> requests.Session:
    return auth.session(url, connections=_CONNECTIONS)
