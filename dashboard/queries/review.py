"""What readers should look at, and what their readings of a random sample say of the model in service."""

from datetime import timedelta

import streamlit as st

from shared.gcp import recent
from shared.gcp.bigquery import Row
from shared.review_sample import BELOW, SALT

WINDOW = timedelta(days=30)
"""What the queue and the figures of service look back on."""
AT_ONCE = 20

_SAMPLED = f"SUBSTR(TO_HEX(SHA256(CONCAT('{SALT}', SPLIT(scan_id, '-')[OFFSET(0)]))), 1, 16) < '{BELOW}'"
"""`shared.review_sample.in_review_sample`, for BigQuery."""
_DISAGREE = "IF(cancer > 0, 1, 0) + IF(healthy > 0, 1, 0) + IF(no_brain_mri > 0, 1, 0) > 1"
KINDS = {
    "Uncertain": ("uncertain", "ABS(probability - threshold), scan_id"),
    "Foreign": ("(prediction = 'Not a brain MRI' OR scan_id IN UNNEST(@foreign))", "predicted_at DESC, scan_id"),
    "Contradicted": (
        f"((label IN ('Cancer', 'Non-Cancer') AND label != prediction) OR disagreed > 0 OR {_DISAGREE})",
        "ABS(probability - threshold) DESC, scan_id",
    ),
    "Challenged": ("scan_id IN (SELECT scan_id FROM challenged)", "readers DESC, scan_id"),
    "Random sample": (_SAMPLED, "scan_id"),
}
"""Condition and order of each part of the queue."""

_SCORED = """
  SELECT scan_id, model_version, prediction, probability, threshold, IFNULL(uncertain, FALSE) AS uncertain, predicted_at
  FROM {recent predictions by scan_id}
"""
_SAID = """
  SELECT scan_id, IFNULL(reader_id, feedback_id) AS reader, reading, prediction AS answered FROM {recent feedback}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id, IFNULL(reader_id, feedback_id) ORDER BY given_at DESC) = 1
"""
"""The latest of each reader on each scan, whatever the release."""
_ACCEPTED = """
  SELECT scan_id, label, source, series_id FROM {recent scans}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id ORDER BY accepted_at DESC) = 1
"""

_CHALLENGED = """
  SELECT other.scan_id FROM `{dataset}.predictions_raw` AS other JOIN scored USING (scan_id)
  WHERE other.role = 'challenger' AND other.recorded_at >= @since AND other.prediction != scored.prediction
    AND other.model_version = (
      SELECT model_version FROM `{dataset}.predictions_raw` WHERE role = 'challenger' AND recorded_at >= @since
      ORDER BY predicted_at DESC LIMIT 1)
"""
"""Scans that the latest challenger calls otherwise in shadow."""

_QUEUE = f"""
WITH scored AS ({_SCORED}), said AS ({_SAID}), accepted AS ({_ACCEPTED}), heard AS (
  SELECT scan_id, COUNTIF(reading = 'Cancer') AS cancer, COUNTIF(reading = 'Non-Cancer') AS healthy,
    COUNTIF(reading = 'Not a brain MRI') AS no_brain_mri, COUNTIF(reading = 'Cannot tell') AS cannot_tell,
    COUNTIF(reading != 'Cannot tell' AND reading != answered) AS disagreed, LOGICAL_OR(reader = @reader) AS mine
  FROM said GROUP BY scan_id
), challenged AS ({_CHALLENGED})
SELECT *, COUNT(*) OVER () AS total FROM (
  SELECT scan_id, label, source, model_version, prediction, probability, threshold, uncertain, predicted_at,
    IFNULL(cancer, 0) AS cancer, IFNULL(healthy, 0) AS healthy, IFNULL(no_brain_mri, 0) AS no_brain_mri,
    IFNULL(cannot_tell, 0) AS cannot_tell, IFNULL(disagreed, 0) AS disagreed, IFNULL(mine, FALSE) AS mine,
    IFNULL(cancer, 0) + IFNULL(healthy, 0) + IFNULL(no_brain_mri, 0) AS readers
  FROM accepted JOIN scored USING (scan_id) LEFT JOIN heard USING (scan_id)
)
WHERE NOT mine AND (@source = '' OR source = @source) AND {{condition}} ORDER BY {{order}} LIMIT {AT_ONCE}
"""  # noqa: S608 - constants of this module


@st.cache_data(ttl=30, max_entries=50, show_spinner=False)
def queue(kind: str, source: str, reader: str, foreign: list[str]) -> list[Row]:
    """Return the next scans of a part of the queue that the reader has not read; `total` counts all of them.

    `source` may be empty for all, `reader` is a pseudonym (`feedback.reader_id`), `foreign` are the scans that the last
    drift check named. Beside what was answered stand the numbers of readers by what they saw. Raises BigQueryError.
    """
    condition, order = KINDS[kind]
    sql = _QUEUE.replace("{condition}", condition).replace("{order}", order)
    named = {"foreign": foreign or [""]} if kind == "Foreign" else {}
    return recent.query(sql, since=recent.back(WINDOW), source=source, reader=reader, **named)


@st.cache_data(ttl=60, max_entries=10, show_spinner=False)
def sample_readings(model_version: str) -> list[Row]:
    """Return what readers saw in scans of the random sample that a release has answered, at most 20,000, a row each.

    Columns scan_id, source, series_id, prediction, reader, reading. Raises BigQueryError.
    """
    sql = f"""
    WITH said AS ({_SAID}), accepted AS ({_ACCEPTED})
    SELECT scan_id, source, series_id, answer.prediction, reader, reading
    FROM said JOIN accepted USING (scan_id)
    JOIN (SELECT scan_id, prediction FROM {{recent predictions}} WHERE model_version = @version) AS answer
      USING (scan_id)
    WHERE {_SAMPLED} ORDER BY scan_id LIMIT 20000
    """  # noqa: S608 - constants of this module
    return recent.query(sql, since=recent.back(WINDOW), version=model_version)
