"""scan-accepted -> features of the scan as a row in BigQuery."""

import functions_framework
from cloudevents.http import CloudEvent

from shared.decoding import decode
from shared.features import FEATURE_VERSION, pixel_statistics
from shared.gcp import bigquery, pubsub, releases, storage
from shared.preprocessing import prepare


@functions_framework.cloud_event
def write_features(cloud_event: CloudEvent) -> None:
    """Write the pixel statistics and the released model's embedding of one scan."""
    event = pubsub.pushed_event(cloud_event)
    tensor = prepare(next(iter(decode(storage.read(event.bucket, event.name)).pages)))
    model = releases.current()
    row = {
        "scan_id": event.scan_id,
        "feature_version": f"{FEATURE_VERSION}+{model.card.version}",
        "label": event.label,
        "source": event.source,
        **pixel_statistics(tensor),
        "embedding": model.predict(tensor).embedding.tolist(),
    }
    bigquery.append("features", row, key=f"{event.scan_id}/{row['feature_version']}")
