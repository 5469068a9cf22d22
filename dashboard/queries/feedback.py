"""What readers say of answers."""

import uuid
from datetime import UTC, datetime

import streamlit as st

from dashboard.inference_client import PredictionResult
from shared.gcp import bigquery
from shared.gcp.bigquery import Row, query


def give_feedback(reader: str, result: PredictionResult, seen: str, reason: str) -> None:
    """Store what a reader sees in a scan; the same reader's next opinion on it replaces this one.

    Raises BigQueryError.
    """
    feedback_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{reader}/{result.scan_id}/{result.model_version}"))
    row = {
        "feedback_id": feedback_id,
        "scan_id": result.scan_id,
        "model_version": result.model_version,
        "prediction": result.prediction,
        "probability": result.probability,
        "agrees": seen == result.prediction,
        "reading": seen,
        "reason": reason or None,
        "given_at": datetime.now(UTC).isoformat(),
    }
    bigquery.append("feedback", row, key=str(uuid.uuid4()))


@st.cache_data(ttl=10, max_entries=10, show_spinner=False)
def disagreements() -> list[Row]:
    """The last 1,000 answers that a reader corrected: what the next training should look at. Raises BigQueryError."""
    sql = """
    SELECT given_at, scan_id, prediction, probability, reading, reason, model_version FROM `{dataset}.feedback`
    WHERE NOT agrees ORDER BY given_at DESC LIMIT 1000
    """
    return query(sql)
