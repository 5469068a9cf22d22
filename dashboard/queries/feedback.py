"""What readers say of answers."""

import os
import uuid
from datetime import UTC, datetime

import streamlit as st

from shared import config
from shared.gcp import bigquery
from shared.gcp.bigquery import Row, query
from shared.ml.prediction import PredictionResponse
from shared.pseudonyms import pseudonym


def feedback_id(reader: str, scan_id: str, model_version: str) -> str:
    """Return the id of a reader's feedback on an answer: it names nobody, and the next one replaces it."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{reader}/{scan_id}/{model_version}"))


def reader_id(reader: str) -> str:
    """Return the pseudonym that a reader's feedback on every scan carries: two of them disagree, or one thought again.

    Keyed where there is a key, so that nobody who reads the table can try out logins.
    """
    if "PSEUDONYM_KEY" in os.environ:
        return pseudonym(config.pseudonym_key(), f"reader {reader}")
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"reader {reader}"))


def give_feedback(reader: str, result: PredictionResponse, seen: str, reason: str) -> None:
    """Store what a reader sees in a scan; the same reader's next feedback on it replaces this one.

    Raises BigQueryError.
    """
    row = {
        "feedback_id": feedback_id(reader, result.scan_id, result.model_version),
        "scan_id": result.scan_id,
        "model_version": result.model_version,
        "prediction": result.prediction,
        "probability": result.probability,
        "agrees": seen == result.prediction,
        "reading": seen,
        "reason": reason or None,
        "reader_id": reader_id(reader),
        "given_at": datetime.now(UTC).isoformat(),
    }
    bigquery.append("feedback", row, key=str(uuid.uuid4()))
    of_scan.clear(result.scan_id)


@st.cache_data(ttl=10, max_entries=200, show_spinner=False)
def of_scan(scan_id: str) -> list[Row]:
    """Return readers' feedback on a scan, newest first, at most 100. Raises BigQueryError."""
    sql = """
    SELECT feedback_id, given_at, agrees, reading, reason, model_version FROM `{dataset}.feedback`
    WHERE scan_id = @scan_id ORDER BY given_at DESC LIMIT 100
    """
    return list(query(sql, scan_id=scan_id))


@st.cache_data(ttl=10, max_entries=10, show_spinner=False)
def disagreements() -> list[Row]:
    """Return the last 1,000 answers that a reader corrected: what the next training should look at.

    Raises BigQueryError.
    """
    sql = """
    SELECT given_at, scan_id, prediction, probability, reading, reason, model_version FROM `{dataset}.feedback`
    WHERE NOT agrees AND reading != 'Cannot tell' ORDER BY given_at DESC LIMIT 1000
    """
    return list(query(sql))
