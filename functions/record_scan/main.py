"""scan-accepted, scan-rejected, scan-scored and series-summarised -> rows in BigQuery.

Rows of a series have summarise_series called when the series may be complete.
"""

import logging
import time
from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared import config
from shared.events import ScanAccepted, ScanRejected, ScanScored, SeriesSummarised, pushed
from shared.gcp import bigquery, logs, tasks
from shared.ml.series_summary import call_at

logs.configure()
logger = logging.getLogger(__name__)


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
        _summarise_after(config.series_quiet_seconds())


def _scored(event: ScanScored) -> None:
    """Write the score of a slice; a scan of no series has its row in `predictions` already."""
    if event.series_id:
        columns = ("series_id", "scan_id", "model_version", "prediction", "probability", "threshold", "tumour_type")
        row = {name: getattr(event, name) for name in (*columns, "predicted_at")}
        bigquery.append("slice_scores", row, key=f"{event.series_id[:40]}/{event.scan_id}/{event.model_version}")
        _summarise_after(0)  # it may be the last one of a series that is quiet


def _summarise_after(seconds: float) -> None:
    """Have summarise_series called once a series that now gets nothing more has been quiet for so long.

    A task that cannot be made fails no message: Cloud Scheduler's tick finds the row within the minute, while pushes
    that fail would be slowed down, and every other row behind them would be late.
    """
    try:
        tasks.call_once("summarise-series", call_at(time.time(), seconds))
    except tasks.TasksError as error:
        logger.warning("summarise_series is left to its schedule", extra={"error": str(error)})


def _summarised(event: SeriesSummarised) -> None:
    row = asdict(event)
    row["suspicious_scan_ids"] = [one["scan_id"] for one in row.pop("suspicious")]
    bigquery.append("series", row, key=f"{event.series_id[:40]}/{event.revision}")
