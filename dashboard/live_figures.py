"""How good the release in service is, as readers of the random sample see it: figures with their intervals."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.gcp.bigquery import Row
from shared.ml.intervals import Share, effective, wilson
from shared.ml.prediction import CANNOT_TELL

ALL = "All sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """Of one source, or of all."""

    scans: int
    """With a reading that decides."""
    conflicts: int
    """Scans of which two readers say different things: they decide nothing."""
    agreement: Share
    """Readings that are what the release answered, of those that decide."""
    sensitivity: Share
    specificity: Share
    readers_agree: Share
    """Scans of which all of several readers say the same."""


def by_source(readings: Iterable[Row]) -> dict[str, LiveFigures]:
    """Return the figures of all sources together, and of each, of `queries.review.sample_readings`."""
    rows = [row for row in readings if row["reading"] != CANNOT_TELL]
    sources = sorted({str(row["source"]) for row in rows})
    parts = {ALL: rows} | {name: [row for row in rows if row["source"] == name] for name in sources}
    return {name: _figures(part) for name, part in parts.items() if part}


def _figures(rows: Sequence[Row]) -> LiveFigures:
    scans: dict[str, list[Row]] = {}
    for row in rows:
        scans.setdefault(row["scan_id"], []).append(row)
    decided = [found for found in scans.values() if len({row["reading"] for row in found}) == 1]
    several = [found for found in scans.values() if len(found) > 1]
    return LiveFigures(
        scans=len(decided),
        conflicts=len(scans) - len(decided),
        agreement=_share(
            [(found[0], row["reading"] == row["prediction"]) for found in scans.values() for row in found]
        ),
        sensitivity=_called(decided, "Cancer"),
        specificity=_called(decided, "Non-Cancer"),
        readers_agree=_share([(found[0], len({row["reading"] for row in found}) == 1) for found in several]),
    )


def _called(scans: Sequence[Sequence[Row]], truth: str) -> Share:
    """Return the share of scans of this truth that the release called so: a refusal is an error."""
    return _share([(found[0], found[0]["prediction"] == truth) for found in scans if found[0]["reading"] == truth])


def _share(judged: Sequence[tuple[Row, bool]]) -> Share:
    """Return a share with Wilson's interval, in which the slices of a series count by Kish's effective number."""
    groups = Counter(row["series_id"] or row["scan_id"] for row, _ in judged)
    return wilson(sum(right for _, right in judged), len(judged), effective(groups.values()))
