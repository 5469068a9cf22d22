"""Rows of `release_decisions`: each step of a release, or of a site's calibration, towards the scans or back."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal

from shared.clock import now
from shared.gcp import bigquery

Outcome = Literal["in shadow", "canary", "promoted", "kept back", "withdrawn", "rolled back to", "commissioned"]


def record(
    version: str,
    outcome: Outcome,
    before: str | None,
    reasons: Sequence[str] = (),
    figures: Mapping[str, float] | None = None,
) -> None:
    """Append the row of one decision; `before` is the version that was current until then.

    A site's calibration is named by source and version, as answers name it. Raises BigQueryError.
    """
    decision_id = str(uuid.uuid4())
    row = {
        "decision_id": decision_id,
        "version": version,
        "outcome": outcome,
        "before": before,
        "reasons": list(reasons),
        "figures": json.dumps(figures) if figures else None,
        "decided_at": now(),
    }
    bigquery.append("release_decisions", row, key=decision_id)
