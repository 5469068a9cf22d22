"""scan-accepted and scan-rejected -> a row in BigQuery."""

from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared.events import ScanAccepted, ScanRejected, pushed
from shared.gcp import bigquery


@functions_framework.cloud_event
def record_scan(cloud_event: CloudEvent) -> None:
    """Write the row of one scan, or of one rejected file."""
    match pushed(cloud_event.data):
        case ScanAccepted() as event:
            row = asdict(event)
            row["object_name"] = row.pop("name")
            del row["bucket"]
            bigquery.append("scans", row, key=f"{event.scan_id}/{event.label}")
        case ScanRejected() as event:
            bigquery.append("rejections", asdict(event), key=f"{event.file_id}/{event.label}")
