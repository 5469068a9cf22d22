"""scan-accepted, scan-rejected, scan-scored and series-summarised -> rows in BigQuery."""

from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared.events import ScanAccepted, ScanRejected, ScanScored, SeriesSummarised, pushed
from shared.gcp import bigquery


@functions_framework.cloud_event
def record_scan(cloud_event: CloudEvent) -> None:
    """Write the rows of one event."""
    match pushed(cloud_event.data):
        case ScanAccepted() as event:
            _accepted(event)
        case ScanRejected() as event:
            bigquery.append("rejections", asdict(event), key=f"{event.file_id}/{event.label}/{event.generation}")
        case ScanScored() as event:
            _scored(event)
        case SeriesSummarised() as event:
            _summarised(event)


def _accepted(event: ScanAccepted) -> None:
    row = asdict(event)
    row["object_name"] = row.pop("name")
    del row["bucket"]
    # BigQuery drops a second row of the same key for a minute: every upload of the same bytes has a row of its own.
    bigquery.append("scans", row, key=f"{event.scan_id}/{event.label}/{event.generation}")
    if event.series_id:
        columns = ("series_id", "scan_id", "study_id", "label", "source", "object_name", "slice_position_mm", "plane")
        member = {name: row[name] for name in (*columns, "accepted_at")}
        bigquery.append("series_slices", member, key=f"{event.series_id[:40]}/{event.scan_id}")


def _scored(event: ScanScored) -> None:
    """Write the score of a slice; a scan of no series has its row in `predictions` already."""
    if event.series_id:
        columns = ("series_id", "scan_id", "model_version", "prediction", "probability", "threshold", "tumour_type")
        row = {name: getattr(event, name) for name in (*columns, "predicted_at")}
        bigquery.append("slice_scores", row, key=f"{event.series_id[:40]}/{event.scan_id}/{event.model_version}")


def _summarised(event: SeriesSummarised) -> None:
    row = asdict(event)
    row["suspicious_scan_ids"] = [one["scan_id"] for one in row.pop("suspicious")]
    bigquery.append("series", row, key=f"{event.series_id[:40]}/{event.revision}")
