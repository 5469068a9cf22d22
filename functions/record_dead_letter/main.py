"""What a step has given up -> a row in BigQuery, where the dashboard counts it."""

from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared.events import DeadLetter
from shared.gcp import bigquery


@functions_framework.cloud_event
def record_dead_letter(cloud_event: CloudEvent) -> None:
    """Write the row of one dead letter. The letter itself stays in its step's dead-letter subscription."""
    letter = DeadLetter.from_push(cloud_event.data)
    bigquery.append("dead_letters", asdict(letter), key=letter.dead_letter_id)
