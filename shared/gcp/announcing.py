"""What is undone announced again: uploads to validate_scan, accepted scans to score_scan alone."""

from collections.abc import Iterable
from datetime import datetime

from shared import config
from shared.events import ScanAccepted
from shared.gcp import bigquery, pubsub, storage
from shared.intake.reconciliation import Entry

_MOST_ATTEMPTS = 3
"""What was dead-lettered so often is left to a person: announcing it again would go round for ever."""
_MOST_SCANS = 10_000
"""Scans announced in one run; the next run does the rest."""

_STUBBORN_UPLOADS = """
SELECT generation FROM {dataset}.dead_letters WHERE generation IS NOT NULL
GROUP BY generation HAVING COUNT(*) >= @attempts
"""
_UNDONE_SCANS = """
SELECT * EXCEPT (recorded_at) FROM {dataset}.scans
WHERE accepted_at < @before AND scan_id NOT IN (DONE) AND scan_id NOT IN (
  SELECT scan_id FROM {dataset}.dead_letters WHERE scan_id IS NOT NULL
  GROUP BY scan_id HAVING COUNT(*) >= @attempts
)
LIMIT @most
"""
_SCORED = """
SELECT scan_id FROM {dataset}.predictions_raw
WHERE {given} AND scan_id IN (SELECT scan_id FROM {dataset}.features_raw)
"""
"""A score drives write_features, so that a scan without features is scored again."""


def announce_uploads(undone: Iterable[Entry]) -> int:
    """Announce uploads again as Cloud Storage does, and return how many; those that failed three times are left out."""
    stubborn = {row["generation"] for row in bigquery.query(_STUBBORN_UPLOADS, attempts=_MOST_ATTEMPTS)}
    blobs = (storage.stat(config.uploads_bucket(), entry.detail) for entry in undone)
    fresh = [blob for blob in blobs if blob and blob.generation not in stubborn]
    return pubsub.publish_messages(("scan-uploaded", *storage.notification(blob)) for blob in fresh)


def announce_scans(before: datetime) -> int:
    """Announce accepted scans without a prediction or features again to score_scan alone, and return how many."""
    sql = _UNDONE_SCANS.replace("DONE", _SCORED)
    rows = bigquery.stream(sql, before=before, attempts=_MOST_ATTEMPTS, most=_MOST_SCANS)
    events = (ScanAccepted.from_row(dict(row), config.scans_bucket()) for row in rows)
    attributes = {"event": ScanAccepted.TOPIC}
    return pubsub.publish_messages(("score-scan-replay", event.to_json(), attributes) for event in events)
