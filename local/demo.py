"""Drop files into the uploads bucket and follow each until it is recorded, scored and described, or rejected."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from local.samples import samples
from shared import config, scan
from shared.errors import Reason
from shared.gcp import bigquery, storage
from shared.labels import LABEL_MAP, Label, mapped_label

_UPLOADS_AT_A_TIME = 8
_POLL_S = 0.5
_GIVE_UP_AFTER_S = 120
"""Without a single file coming to its end."""
_TABLE_ROWS = 40

_SCANS = """
SELECT s.scan_id, s.label, s.pages, p.prediction, p.probability, f.scan_id IS NOT NULL AS described,
  TIMESTAMP_DIFF(p.predicted_at, p.uploaded_at, MILLISECOND) AS milliseconds
FROM {dataset}.scans AS s
LEFT JOIN {dataset}.predictions AS p USING (scan_id)
LEFT JOIN {dataset}.features AS f USING (scan_id)
WHERE SPLIT(s.scan_id, '-')[OFFSET(0)] IN UNNEST(@ids)
ORDER BY s.scan_id
"""
_REJECTIONS = "SELECT file_id, label, reason FROM {dataset}.rejections WHERE file_id IN UNNEST(@ids)"


@dataclass(frozen=True, slots=True)
class Drop:
    """A file to upload."""

    kind: str
    """What it is, for samples of our own; the name of a real file may name a patient, so it is not shown."""
    object_name: str
    label: Label
    content: bytes | Path
    expected: int | Reason | None = None
    """Number of scans or reason; None where either will do."""

    def read(self) -> bytes:
        """The file's bytes."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    drop: Drop
    file_id: str
    scans: Sequence[dict]
    reason: str | None

    @property
    def is_complete(self) -> bool:
        """Whether it was rejected, or every page of it is recorded, scored and described."""
        if self.reason:
            return True
        done = [row for row in self.scans if row["prediction"] and row["described"]]
        return bool(self.scans) and len(done) == self.scans[0]["pages"]

    @property
    def is_expected(self) -> bool:
        """Whether it ended where it should."""
        return self.is_complete and self.drop.expected in {None, self.reason or len(self.scans)}


def sample_drops() -> list[Drop]:
    """The samples that the project makes itself."""
    return [Drop(item.kind, item.object_name, item.label, item.content, item.expected) for item in samples()]


def folder_drops(folder: Path, limit: int | None) -> list[Drop]:
    """Files of a folder, labelled by the folders they lie in; `limit` of them spread evenly over all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    step = max(1, len(files) // limit) if limit else 1
    return [_folder_drop(folder, path) for path in files[::step][:limit]]


def _folder_drop(folder: Path, path: Path) -> Drop:
    name = path.relative_to(folder.parent).as_posix()
    label = mapped_label(name, LABEL_MAP) or Label.UNLABELLED
    return Drop("", f"{label}/{name}", label, path)


def run(drops: Sequence[Drop], console: Console) -> list[Outcome]:
    """Upload and follow, with a progress bar, until every file ended or nothing moves any more."""
    columns = TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        uploading = progress.add_task("uploaded", total=len(drops))
        ids = [_advance(progress, uploading, file_id) for file_id in _upload(drops)]
        ended = progress.add_task("ended", total=len(drops))
        for outcomes in _follow(drops, ids):
            progress.update(ended, completed=sum(outcome.is_complete for outcome in outcomes))
    return outcomes


def _advance(progress: Progress, task: int, file_id: str) -> str:
    progress.advance(task)
    return file_id


def _upload(drops: Iterable[Drop]) -> Iterator[str]:
    with ThreadPoolExecutor(_UPLOADS_AT_A_TIME) as pool:
        yield from pool.map(_drop, drops)


def _drop(drop: Drop) -> str:
    content = drop.read()
    storage.create(config.uploads_bucket(), drop.object_name, content, "application/octet-stream", {"source": "demo"})
    return scan.file_id(content)


def _follow(drops: Sequence[Drop], ids: Sequence[str]) -> Iterator[list[Outcome]]:
    best, moved = -1, time.monotonic()
    while True:
        outcomes = _outcomes(drops, ids)
        yield outcomes
        complete = sum(outcome.is_complete for outcome in outcomes)
        if complete > best:
            best, moved = complete, time.monotonic()
        if complete == len(drops) or time.monotonic() - moved > _GIVE_UP_AFTER_S:
            return
        time.sleep(_POLL_S)


def _outcomes(drops: Sequence[Drop], ids: Sequence[str]) -> list[Outcome]:
    unique = sorted(set(ids))
    scans: dict[tuple[str, str], list[dict]] = {}
    for row in bigquery.query(_SCANS, ids=unique):
        scans.setdefault((scan.file_id_of(row["scan_id"]), row["label"]), []).append(row)
    reasons = {(row["file_id"], row["label"]): row["reason"] for row in bigquery.query(_REJECTIONS, ids=unique)}
    keys = [(file_id, str(drop.label)) for drop, file_id in zip(drops, ids, strict=True)]
    return [Outcome(drop, key[0], scans.get(key, []), reasons.get(key)) for drop, key in zip(drops, keys, strict=True)]


def table(outcomes: Sequence[Outcome]) -> Table:
    """What became of each file, one line a scan."""
    shown = Table("scan", "file", "became", "label", "P(tumour)", "ms", title="What became of each file")
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    for row in rows[:_TABLE_ROWS]:
        shown.add_row(*row)
    if len(rows) > _TABLE_ROWS:
        shown.caption = f"and {len(rows) - _TABLE_ROWS:,} more: the dashboard's worklist shows them all"
    return shown


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    drop = outcome.drop
    if not outcome.scans:
        became = f"[yellow]{outcome.reason}[/]" if outcome.reason else "[red]still under way[/]"
        yield outcome.file_id[:12], drop.kind, became, drop.label, "", ""
    for row in outcome.scans:
        page = row["scan_id"].partition("-")[2]
        scored = row["prediction"] is not None
        yield (
            f"{outcome.file_id[:12]}{f' page {int(page)}' if page else ''}",
            drop.kind,
            f"[green]accepted[/], {row['prediction']}" if scored else "[red]accepted, not scored yet[/]",
            drop.label,
            f"{row['probability']:.3f}" if scored else "",
            f"{row['milliseconds']:,}" if scored else "",
        )
