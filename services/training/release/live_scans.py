"""The second stage of the criteria: champion and challenger on the scans that came since, one of each series.

No reader decides alone: the verdict must be the same with each reader's readings left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.gcp import bigquery
from shared.ml.challenger import MOST_DISAGREEMENT, MOST_REFUSED_MORE, at_least, is_refusal
from shared.ml.prediction import CANNOT_TELL

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
  SELECT scan_id, COUNT(DISTINCT IFNULL(reader_id, '')) AS readers FROM {dataset}.feedback
  WHERE reading != 'Cannot tell' GROUP BY scan_id
), series AS (
  SELECT scan_id, ANY_VALUE(series_id) AS series_id FROM {dataset}.scans GROUP BY scan_id
), pairs AS (
  SELECT scan_id, champion.prediction AS champion, challenger.prediction AS challenger,
    ROW_NUMBER() OVER (
      PARTITION BY IFNULL(series_id, SPLIT(scan_id, '-')[OFFSET(0)]) ORDER BY IFNULL(readers, 0) DESC, scan_id
    ) AS place
  FROM challenger JOIN champion USING (scan_id) LEFT JOIN heard USING (scan_id) LEFT JOIN series USING (scan_id)
)
SELECT scan_id, champion, challenger FROM pairs WHERE place = 1
"""
"""Slices of one head are no independent witnesses: of a series the slice that most readers have read counts."""

_READINGS = """
SELECT scan_id, IFNULL(reader_id, '') AS reader, reading FROM {dataset}.feedback
WHERE scan_id IN (
  SELECT scan_id FROM {dataset}.predictions_raw WHERE role = 'challenger' AND model_version = @challenger
)
QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id, IFNULL(reader_id, '') ORDER BY given_at DESC) = 1
"""
"""The latest of each reader on each scan. Opinions that name no reader count as one reader's: they may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What both said of a scan, and what its readers saw in it."""

    champion: str
    challenger: str
    readings: Mapping[str, str] = field(default_factory=dict)
    """By the reader's pseudonym; those who cannot tell are not among them."""

    @property
    def reading(self) -> str | None:
        """What more than half of the scan's readers see; None if nobody spoke, or not that many alike."""
        for reading, votes in Counter(self.readings.values()).most_common(1):
            return reading if votes > len(self.readings) / 2 else None
        return None

    def without(self, reader: str) -> "Pair":
        """Return the pair as if a reader had not spoken."""
        return replace(self, readings={name: said for name, said in self.readings.items() if name != reader})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the live scans say of a challenger."""

    reasons: list[str]
    """Why it is not let further; none if it is."""
    figures: dict[str, float]
    is_open: bool = False
    """Whether more scans, or another reader, must come before anything is said."""


def compared(champion: str, challenger: str) -> Comparison:
    """Return the comparison of two versions on the scans that both have scored. Raises BigQueryError."""
    said: dict[str, dict[str, str]] = {}
    for row in bigquery.query(_READINGS, challenger=challenger):
        if row["reading"] != CANNOT_TELL:
            said.setdefault(row["scan_id"], {})[row["reader"]] = row["reading"]
    return compare(
        [
            Pair(champion=row["champion"], challenger=row["challenger"], readings=said.get(row["scan_id"], {}))
            for row in bigquery.query(_PAIRS, champion=champion, challenger=challenger)
        ]
    )


def compare(pairs: Sequence[Pair]) -> Comparison:
    """Return whether a challenger is no worse where readers spoke, and like the champion elsewhere.

    Readers: McNemar's exact test, one-sided, for tumours and for healthy scans each. Elsewhere: the share that is
    called differently, and the share refused beyond the champion's. It stays open if another verdict came of leaving
    out one reader, whichever: one who errs or lies neither promotes a release nor keeps it back.
    """
    reasons, figures = _reasons(pairs), _figures(pairs)
    if len(pairs) < FEWEST_SCANS:
        early = f"{len(pairs)} scans of different series were scored by both: wait for {FEWEST_SCANS}."
        return Comparison([early, *reasons], figures, is_open=True)
    readers = sorted({reader for pair in pairs for reader in pair.readings})
    others = [_reasons([pair.without(reader) for pair in pairs]) for reader in readers]
    turned = [other for other in others if bool(other) != bool(reasons)]
    if turned:
        return Comparison([_hanging(reasons or turned[0], len(readers), against=bool(reasons))], figures, is_open=True)
    return Comparison(reasons, figures)


def _hanging(reasons: list[str], readers: int, *, against: bool) -> str:
    """Return the sentence for a verdict that one reader makes alone; `reasons` are those against the challenger."""
    who = "the only reader" if readers == 1 else f"one of {readers} readers"
    when = "only if" if against else "unless"
    return (
        f"The verdict hangs on {who}. Against it speaks, {when} that reader counts: {' '.join(reasons)} Let another "
        "reader look at the scans that the two releases call differently (Review, Challenged)."
    )


def _reasons(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence for each thing that speaks against the challenger."""
    unread = [pair for pair in pairs if not pair.reading]
    differing, refused = _differing(unread), _refused_more(pairs)
    reasons = []
    if differing > MOST_DISAGREEMENT:
        reasons.append(f"It calls {differing:.0%} of {len(unread)} scans differently that no reader has judged.")
    if refused > MOST_REFUSED_MORE:
        reasons.append(f"It refuses {refused:.1%} more of {len(pairs)} scans than the current release.")
    return reasons + [reason for seen in ("Cancer", "Non-Cancer") if (reason := _worse(seen, pairs))]


def _figures(pairs: Sequence[Pair]) -> dict[str, float]:
    read = [pair for pair in pairs if pair.reading]
    return {
        "scans": float(len(pairs)),
        "read": float(len(read)),
        "readers": float(len({reader for pair in pairs for reader in pair.readings})),
        "differing": _differing([pair for pair in pairs if not pair.reading]),
        "refused_more": _refused_more(pairs),
        "champion_right": _share([pair.champion == pair.reading for pair in read]),
        "challenger_right": _share([pair.challenger == pair.reading for pair in read]),
    }


def _differing(pairs: Sequence[Pair]) -> float:
    return _share([pair.champion != pair.challenger for pair in pairs])


def _refused_more(pairs: Sequence[Pair]) -> float:
    return _share([is_refusal(p.challenger) for p in pairs]) - _share([is_refusal(p.champion) for p in pairs])


def _worse(seen: str, pairs: Sequence[Pair]) -> str:
    """Return a sentence if the challenger is wrong where the champion is right more often than by chance."""
    of_class = [pair for pair in pairs if pair.reading == seen]
    lost = sum(pair.champion == seen != pair.challenger for pair in of_class)
    won = sum(pair.challenger == seen != pair.champion for pair in of_class)
    if lost <= won or at_least(lost, lost + won, 0.5) >= LEVEL:
        return ""
    return f"Of {len(of_class)} scans that readers call {seen} it loses {lost} and wins {won}."


def _share(these: Sequence[bool]) -> float:
    return sum(these) / len(these) if these else 0.0
