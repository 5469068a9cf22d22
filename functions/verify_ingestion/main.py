"""Cloud Scheduler -> proof that what was uploaded is recorded and stored, or a loud failure."""

import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import functions_framework

from shared.clock import now
from shared.gcp import accounting, bigquery, logs

logs.configure()
logger = logging.getLogger(__name__)

_GRACE_S = 900
"""Uploads younger than this may still be under way, so they are left to the next check."""


class IngestionMismatch(Exception):
    """Something that was uploaded is not recorded, not stored, or not what it was."""


@functions_framework.http
def verify_ingestion(request: flask.Request) -> dict[str, list[dict[str, Any]]]:
    """Compare all uploads older than `grace_s` seconds with what is recorded of them, and write a row a label.

    Raises IngestionMismatch if they differ, so that Cloud Scheduler sees a failure and alerts; `reconcile` announces
    again what is lost.
    """
    before = datetime.now(UTC) - timedelta(seconds=float(request.args.get("grace_s", _GRACE_S)))
    checks = accounting.account(before)
    check_id, checked_at = str(uuid.uuid4()), now()
    for check in checks:
        row = check.row() | {"check_id": check_id, "checked_at": checked_at}
        bigquery.append("ingestion_checks", row, key=f"{check_id}/{check.label}")
    failed = [check.row() for check in checks if not check.passed]
    level = logging.ERROR if failed else logging.INFO
    logger.log(level, "verified", extra={"check_id": check_id, "failed": len(failed)})
    if failed:
        raise IngestionMismatch(f"Run reconcile, then look at the table ingestion_checks: {failed}")
    return {"checks": [check.row() for check in checks]}
