"""scan-scored -> features of the scan as a row in BigQuery."""

import logging
import threading

import functions_framework
import numpy as np
from cloudevents.http import CloudEvent

from shared.events import ScanScored, pushed
from shared.gcp import bigquery, logs, registry, storage
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.features import compute_features, feature_version

logs.configure()
logger = logging.getLogger(__name__)

_DECODING = threading.Semaphore(2)
"""Files decoded at a time, as many as there are cores: each may take 0.7 GiB. All else that requests do is waiting."""


@functions_framework.cloud_event
def write_features(cloud_event: CloudEvent) -> None:
    """Write one scan's pixel statistics, principal components once fitted, and the embedding of its score."""
    event = pushed(cloud_event.data)
    if not isinstance(event, ScanScored) or event.embedding is None:
        logger.warning("no embedding", extra={"scan_id": getattr(event, "scan_id", None)})
        return  # of a publisher from before the field: reconcile has the scan scored again
    content, basis = storage.read(event.bucket, event.name), registry.current_basis()
    with _DECODING:
        tensor = prepare(next(iter(decode(content).pages)))
    embedding = np.array(event.embedding, np.float32)
    row = {
        "scan_id": event.scan_id,
        "feature_version": feature_version(event.model_version, basis.version if basis else None),
        "label": event.label,
        "source": event.source,
        **compute_features(tensor, embedding, basis.project(tensor) if basis else None),
    }
    bigquery.append("features", row, key=f"{event.scan_id}/{row['feature_version']}")
