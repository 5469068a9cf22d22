"""Cloud Scheduler -> three known files through the bucket: is each answered as it must be, and in time."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import flask
import functions_framework

from shared import config
from shared.gcp import bigquery, logs, storage
from shared.labels import Label
from shared.scan import SYNTHETIC, file_id

logs.configure()
logger = logging.getLogger(__name__)

FOLDER = "synthetic"
"""Of the models bucket, where Terraform puts the files of dashboard/samples."""
EXPECTED = {"head.jpg": "Non-Cancer", "lesion.png": "Cancer", "cat.jpg": "Not a brain MRI"}

_WITHIN_S = 60
"""What is promised for a scan (terraform/monitoring.tf)."""
_ASK_EVERY_S = 2

_ANSWERS = """
SELECT scan_id, prediction, TIMESTAMP_DIFF(predicted_at, uploaded_at, MILLISECOND) / 1000 AS seconds
FROM {dataset}.predictions_raw
WHERE recorded_at >= @since AND uploaded_at >= @since AND source = @source
  AND {given}
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A known file on its way."""

    sample: str
    scan_id: str
    uploaded_at: datetime


@functions_framework.http
def check_pipeline(request: flask.Request) -> dict[str, dict[str, str]]:
    """Upload the known files again; return what was missed, and log each miss, which alerts.

    `within_s`, a query parameter, is how long an answer may take. Raises StorageError, BigQueryError: the pipeline
    cannot be checked.
    """
    sent = [_send(sample) for sample in EXPECTED]
    answers = _answers(sent, float(request.args.get("within_s", _WITHIN_S)))
    missed = {one.sample: fault for one in sent if (fault := _fault(one, answers.get(one.scan_id)))}
    for one in sent:
        if one.sample not in missed:
            seconds = answers[one.scan_id]["seconds"]
            logger.info("synthetic scan answered", extra={"sample": one.sample, "seconds": seconds})
    for sample, fault in missed.items():
        logger.error("synthetic scan missed", extra={"sample": sample, "fault": fault})
    return {"missed": missed}


def _send(sample: str) -> Sent:
    """Write a known file over its last upload, so that there is one object of each whatever the number of checks."""
    content = storage.read(config.models_bucket(), f"{FOLDER}/{sample}")
    bucket, name = config.uploads_bucket(), f"{Label.UNLABELLED}/{FOLDER}/{sample}"
    before = storage.stat(bucket, name)
    generation = before.generation if before else 0
    storage.replace(
        bucket, name, content, "application/octet-stream", generation=generation, metadata={"source": SYNTHETIC}
    )
    after = storage.stat(bucket, name)
    if after is None:
        raise storage.StorageError(f"Cloud Storage: an object of gs://{bucket} was deleted meanwhile")
    return Sent(sample, file_id(content), after.time_created)


def _answers(sent: list[Sent], within_s: float) -> dict[str, Mapping[str, Any]]:
    """Return the row of each scan that was answered in time, by its id."""
    deadline, since = time.monotonic() + within_s, min(one.uploaded_at for one in sent)
    while True:
        rows = {row["scan_id"]: row for row in bigquery.query(_ANSWERS, since=since, source=SYNTHETIC)}
        if len(rows) == len({one.scan_id for one in sent}) or time.monotonic() > deadline:
            return rows
        time.sleep(_ASK_EVERY_S)


def _fault(one: Sent, answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "There is no answer."
    expected = EXPECTED[one.sample]
    return "" if answer["prediction"] == expected else f"It is called {answer['prediction']}, and is {expected}."
