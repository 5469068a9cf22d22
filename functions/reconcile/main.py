"""Cloud Scheduler -> uploads that are not recorded, and scans without prediction or features, announced again."""

import logging
from datetime import UTC, datetime, timedelta

import flask
import functions_framework

from shared.gcp import accounting, announcing, logs

logs.configure()
logger = logging.getLogger(__name__)

_GRACE_S = 3600
"""What is younger may still be under way; what is older has been retried for as long."""


@functions_framework.http
def reconcile(request: flask.Request) -> dict[str, int]:
    """Announce again what is older than `grace_s` seconds and undone; return how many uploads and scans.

    Steps are idempotent, so that announcing what was only slow does no harm. What was dead-lettered three times is left
    to a person.
    """
    before = datetime.now(UTC) - timedelta(seconds=float(request.args.get("grace_s", _GRACE_S)))
    uploads = announcing.announce_uploads(accounting.undone_uploads(before))
    announced = {"uploads": uploads, "scans": announcing.announce_scans(before)}
    logger.log(logging.WARNING if any(announced.values()) else logging.INFO, "reconciled", extra=announced)
    return announced
