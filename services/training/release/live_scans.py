"""The second stage of the criteria: champion and challenger on the scans that came since, one of each series."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.gcp import bigquery
from shared.ml.challenger import MOST_DISAGREEMENT, MOST_REFUSED_MORE, at_least, is_refusal

FEWEST_SCANS = 100
"""Fewer say too little of how often two releases differ: none differing of 100 leaves up to 3% (rule of three)."""
LEVEL = 0.05

_PAIRS = """
WITH challenger AS (
  SELECT scan_id, prediction, predicted_at FROM {dataset}.predictions_raw
  WHERE role = 'challenger' AND model_version = @challenger AND source != 'synthetic'
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id ORDER BY predicted_at DESC) = 1
), champion AS (
  SELECT scan_id, prediction FROM {dataset}.predictions WHERE model_version = @champion
), heard AS (
  SELECT scan_id, ANY_VALUE(reading) AS reading FROM {dataset}.feedback WHERE reading != 'Cannot tell'
  GROUP BY scan_id HAVING COUNT(DISTINCT reading) = 1
), series AS (
  SELECT scan_id, ANY_VALUE(series_id) AS series_id FROM {dataset}.scans GROUP BY scan_id
), pairs AS (
  SELECT scan_id, champion.prediction AS champion, challenger.prediction AS challenger, reading,
    ROW_NUMBER() OVER (
      PARTITION BY IFNULL(series_id, SPLIT(scan_id, '-')[OFFSET(0)]) ORDER BY reading IS NULL, scan_id
    ) AS place
  FROM challenger JOIN champion USING (scan_id) LEFT JOIN heard USING (scan_id) LEFT JOIN series USING (scan_id)
)
SELECT champion, challenger, reading FROM pairs WHERE place = 1
"""
"""Readings on which all readers of a scan agree; slices of one head are no independent witnesses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What both said of a scan, and what its readers saw in it; None if none spoke, or not with one voice."""

    champion: str
    challenger: str
    reading: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the live scans say of a challenger."""

    reasons: list[str]
    """Why it is not let further; none if it is."""
    figures: dict[str, float]

    @property
    def is_early(self) -> bool:
        """Whether more scans must come before anything is said."""
        return self.figures["scans"] < FEWEST_SCANS


def compared(champion: str, challenger: str) -> Comparison:
    """Return the comparison of two versions on the scans that both have scored. Raises BigQueryError."""
    rows = bigquery.query(_PAIRS, champion=champion, challenger=challenger)
    return compare([Pair(**row) for row in rows])


def compare(pairs: Sequence[Pair]) -> Comparison:
    """Return whether a challenger is no worse where readers spoke, and like the champion elsewhere.

    Readers: McNemar's exact test, one-sided, for tumours and for healthy scans each. Elsewhere: the share that is
    called differently, and the share refused beyond the champion's.
    """
    read = [pair for pair in pairs if pair.reading]
    unread = [pair for pair in pairs if not pair.reading]
    differing = _share([pair.champion != pair.challenger for pair in unread])
    refused = _share([is_refusal(pair.challenger) for pair in pairs]) - _share([is_refusal(p.champion) for p in pairs])
    reasons = []
    if len(pairs) < FEWEST_SCANS:
        reasons.append(f"{len(pairs)} scans of different series were scored by both: wait for {FEWEST_SCANS}.")
    if differing > MOST_DISAGREEMENT:
        reasons.append(f"It calls {differing:.0%} of {len(unread)} scans differently that no reader has judged.")
    if refused > MOST_REFUSED_MORE:
        reasons.append(f"It refuses {refused:.1%} more of {len(pairs)} scans than the current release.")
    reasons += [reason for seen in ("Cancer", "Non-Cancer") if (reason := _worse(seen, read))]
    figures = {
        "scans": float(len(pairs)),
        "read": float(len(read)),
        "differing": differing,
        "refused_more": refused,
        "champion_right": _share([pair.champion == pair.reading for pair in read]),
        "challenger_right": _share([pair.challenger == pair.reading for pair in read]),
    }
    return Comparison(reasons, figures)


def _worse(seen: str, read: Sequence[Pair]) -> str:
    """Return a sentence if the challenger is wrong where the champion is right more often than by chance."""
    of_class = [pair for pair in read if pair.reading == seen]
    lost = sum(pair.champion == seen != pair.challenger for pair in of_class)
    won = sum(pair.challenger == seen != pair.champion for pair in of_class)
    if lost <= won or at_least(lost, lost + won, 0.5) >= LEVEL:
        return ""
    return f"Of {len(of_class)} scans that readers call {seen} it loses {lost} and wins {won}."


def _share(these: Sequence[bool]) -> float:
    return sum(these) / len(these) if these else 0.0
