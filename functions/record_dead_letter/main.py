"""Dead-letter message -> a row in BigQuery, where the dashboard counts it."""

import logging
from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared.clock import seconds_since
from shared.events import DeadLetter
from shared.gcp import bigquery, logs

logs.configure()
logger = logging.getLogger(__name__)

_ON_THE_WAY_TO_A_SCORE = ("validate-scan-on-", "score-scan-on-")
"""Subscriptions whose dead-letter message is a scan that nobody scores."""


@functions_framework.cloud_event
def record_dead_letter(cloud_event: CloudEvent) -> None:
    """Write the row of one dead-letter message, which itself stays in its step's dead-letter subscription."""
    message = DeadLetter.from_push(cloud_event.data)
    bigquery.append("dead_letters", asdict(message), key=message.dead_letter_id)
    if message.subscription.startswith(_ON_THE_WAY_TO_A_SCORE):
        # The objective of upload to prediction counts it as late (terraform/monitoring.tf).
        seconds = seconds_since(message.published_at)
        logger.warning("never scored", extra={"scan_id": message.scan_id, "seconds": seconds})
