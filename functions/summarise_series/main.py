"""Cloud Tasks and Cloud Scheduler -> one answer for every series that has been quiet, published as series-summarised.

It keeps nothing: what it says follows from the slices, their scores and what was said before, so that a run that is
killed, missed or repeated changes nothing.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import functions_framework

from shared import config
from shared.events import SeriesSummarised
from shared.gcp import bigquery, logs, pubsub
from shared.ml.series_summary import AcceptedSlice, SeriesState, SliceScore, summary

logs.configure()
logger = logging.getLogger(__name__)

_LOOK_BACK = timedelta(hours=2)
"""A series that nothing arrived for in this time was summarised, or given up, long ago."""
_TOUCHED = """
SELECT series_id, MAX(recorded_at) AS last, IFNULL(MAX(IF(is_slice, recorded_at, NULL)), @since) AS last_slice FROM (
  SELECT series_id, recorded_at, TRUE AS is_slice FROM {dataset}.series_slices_raw WHERE recorded_at >= @since
  UNION ALL
  SELECT series_id, recorded_at, FALSE FROM {dataset}.slice_scores_raw WHERE recorded_at >= @since
) GROUP BY series_id
"""
_RECENT = timedelta(hours=6)
"""BigQuery bills the columns and hours that are read, and three months are kept: most series lie in these few."""
_KEPT = timedelta(days=90)
"""For so long Terraform keeps slices and scores (terraform/bigquery.tf)."""
_UNSCORED_S = 600
"""A series of which no slice is scored by then may have been scored long before its slices were recorded."""
_SLICES = """
SELECT series_id, scan_id, study_id, label, source, object_name AS name, slice_position_mm AS position_mm, plane
FROM {dataset}.series_slices_raw WHERE recorded_at >= @since AND series_id IN UNNEST(@ids) AND {sent}
QUALIFY ROW_NUMBER() OVER (PARTITION BY series_id, scan_id ORDER BY accepted_at DESC, recorded_at DESC) = 1
"""
_SCORES = """
SELECT series_id, scan_id, model_version, prediction, probability, threshold, tumour_type, predicted_at
FROM {dataset}.slice_scores_raw WHERE recorded_at >= @since AND series_id IN UNNEST(@ids)
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY series_id, scan_id, model_version ORDER BY predicted_at DESC, recorded_at DESC
) = 1
"""
_REVISIONS = """
SELECT series_id, revision, MAX(recorded_at) AS recorded_at FROM {dataset}.series_raw
WHERE recorded_at >= @since AND series_id IN UNNEST(@ids) AND {sent} GROUP BY series_id, revision
"""
_ANSWERED = """
SELECT DISTINCT series_id FROM {dataset}.series_raw
WHERE recorded_at >= @since AND recorded_at < @until AND series_id IN UNNEST(@ids)
"""

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
BySeries = defaultdict[str, Rows]


@functions_framework.http
def summarise_series(_: flask.Request) -> dict[str, int]:
    """Publish an answer for each series that is complete and was not answered as it is now.

    A task calls when a series may be (record_scan); the schedule's call finds whatever a task did not.
    A series whose rows make no sense stops no other: the rest is published before the error is raised.
    """
    events: list[SeriesSummarised] = []
    errors: list[Exception] = []
    for state in _states(datetime.now(UTC)):
        try:
            event = summary(state, config.series_quiet_seconds())
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            errors.append(error)
        else:
            events += [event] if event else []
    pubsub.publish(events)
    for event in events:
        counts = {"scored": event.scored, "accepted": event.accepted}
        logger.info("summarised", extra={"series_id": event.series_id, "revision": event.revision, **counts})
    if errors:
        raise ExceptionGroup("some series could not be summarised", errors)
    return {"summarised": len(events)}


def _states(now: datetime) -> Iterator[SeriesState]:
    """Yield what is known of each quiet series that something arrived for lately."""
    touched = {row["series_id"]: row for row in bigquery.query(_TOUCHED, since=now - _LOOK_BACK)}
    quiet = timedelta(seconds=config.series_quiet_seconds())
    ids = sorted(series_id for series_id, row in touched.items() if now - row["last_slice"] >= quiet)
    if not ids:
        return
    slices, scores, said = _known(ids, touched, now)
    for series_id in ids:
        yield SeriesState(
            series_id=series_id,
            slices=[AcceptedSlice(**row) for row in slices[series_id]],
            scores=[SliceScore(**_in_text(row)) for row in scores[series_id]],
            quiet_seconds=(now - touched[series_id]["last_slice"]).total_seconds(),
            idle_seconds=(now - touched[series_id]["last"]).total_seconds(),
            revisions=[row["revision"] for row in sorted(said[series_id], key=lambda row: row["recorded_at"])],
        )


def _known(ids: list[str], touched: Mapping[str, Row], now: datetime) -> list[BySeries]:
    """Return slices, scores and earlier answers by series.

    Read are the last hours, and all that is kept only for series that began before.
    """
    recent, kept = now - _RECENT, now - _KEPT
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(bigquery.query, _ANSWERED, ids=ids, since=kept, until=recent)
        slices, scores, said = _rows(ids, recent)
    before = {row["series_id"] for row in answered.result()}
    idle = {each: (now - touched[each]["last"]).total_seconds() for each in ids}
    older = [each for each in ids if each in before or _reaches_back(slices[each], scores[each], idle[each])]
    if older:
        slices, scores, said = (old | new for old, new in zip([slices, scores, said], _rows(older, kept), strict=True))
    return [slices, scores, said]


def _reaches_back(slices: Rows, scores: Rows, idle_s: float) -> bool:
    """Return whether a series that was not answered before the last hours has rows from before them.

    It has scores of slices that are not among them, or the slices of scores.
    """
    placed = {row["scan_id"] for row in slices}
    return any(row["scan_id"] not in placed for row in scores) or (not scores and idle_s >= _UNSCORED_S)


def _rows(ids: list[str], since: datetime) -> list[BySeries]:
    """Return slices, scores and answers that were recorded since a time, by series."""
    with ThreadPoolExecutor(3) as pool:  # the queries wait for BigQuery, not for one another
        return [
            *pool.map(lambda sql: _by_series(bigquery.query(sql, ids=ids, since=since)), (_SLICES, _SCORES, _REVISIONS))
        ]


def _by_series(rows: Iterable[Row]) -> BySeries:
    grouped: BySeries = defaultdict(list)
    for row in rows:
        grouped[row["series_id"]].append({name: value for name, value in row.items() if name != "series_id"})
    return grouped


def _in_text(row: Row) -> dict[str, Any]:
    return {**row, "predicted_at": row["predicted_at"].isoformat()}
