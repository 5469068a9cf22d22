"""scan-accepted -> features of the scan as a row in BigQuery."""

import functions_framework
from cloudevents.http import CloudEvent

from shared.events import pushed
from shared.gcp import bigquery, registry, storage
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.features import compute_features, feature_version


@functions_framework.cloud_event
def write_features(cloud_event: CloudEvent) -> None:
    """Write one scan's pixel statistics, the released model's embedding, and principal components once fitted."""
    event = pushed(cloud_event.data)
    tensor = prepare(next(iter(decode(storage.read(event.bucket, event.name)).pages)))
    model, basis = registry.current_model(), registry.current_basis()
    row = {
        "scan_id": event.scan_id,
        "feature_version": feature_version(model.card.version, basis and basis.version),
        "label": event.label,
        "source": event.source,
        **compute_features(tensor, model.predict(tensor).embedding, basis and basis.project(tensor)),
    }
    bigquery.append("features", row, key=f"{event.scan_id}/{row['feature_version']}")
