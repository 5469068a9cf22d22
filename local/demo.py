"""Upload files and follow each until all its scans are recorded, predicted and have features, or it is rejected."""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from local.samples import samples
from shared import config, scan
from shared.errors import Reason
from shared.gcp import bigquery, storage
from shared.labels import LABEL_MAP, Label, mapped_label

type Row = Mapping[str, Any]

_UPLOADS_AT_A_TIME = 8
_POLL_S = 0.5
_GIVE_UP_AFTER_S = 120
"""Without a single file coming to its end."""
_TABLE_ROWS = 40

_SCANS = """
SELECT s.scan_id, s.label, s.pages, p.prediction, p.probability,
  TIMESTAMP_DIFF(p.predicted_at, p.uploaded_at, MILLISECOND) AS milliseconds,
  s.scan_id IN (SELECT scan_id FROM {dataset}.features) AS has_features
FROM {dataset}.scans AS s
LEFT JOIN (
  SELECT * FROM {dataset}.predictions
  QUALIFY ROW_NUMBER() OVER (PARTITION BY scan_id ORDER BY predicted_at DESC) = 1
) AS p USING (scan_id)
WHERE SPLIT(s.scan_id, '-')[OFFSET(0)] IN UNNEST(@ids)
ORDER BY s.scan_id
"""
"""One row per scan, whatever versions of a model have predicted it and whatever versions of features it has."""
_REJECTIONS = "SELECT file_id, label, reason FROM {dataset}.rejections WHERE file_id IN UNNEST(@ids)"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload."""

    name: str
    """What the table calls it: the kind of a sample, or the name that a person's file has on the person's machine."""
    object_name: str
    label: Label
    content: bytes | Path
    expected: int | Reason | None = None
    """Number of scans or reason; None if either will do."""

    def read(self) -> bytes:
        """Return the file's bytes."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    upload: Upload
    file_id: str
    scans: Sequence[Row]
    reason: str | None

    @property
    def is_complete(self) -> bool:
        """Whether it was rejected, or every page of it is recorded, predicted and has features."""
        if self.reason:
            return True
        done = [row for row in self.scans if row["prediction"] and row["has_features"]]
        return bool(self.scans) and len(done) == self.scans[0]["pages"]

    @property
    def is_expected(self) -> bool:
        """Whether it ended where it should."""
        return self.is_complete and self.upload.expected in {None, self.reason or len(self.scans)}


def sample_uploads() -> list[Upload]:
    """Return the samples that the project makes itself."""
    return [Upload(item.kind, item.object_name, item.label, item.content, item.expected) for item in samples()]


def folder_uploads(folder: Path, limit: int | None) -> list[Upload]:
    """Return a folder's files, labelled by the folders they lie in; `limit` of them spread evenly over all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    step = max(1, len(files) // limit) if limit else 1
    return [_folder_upload(folder, path) for path in files[::step][:limit]]


def _folder_upload(folder: Path, path: Path) -> Upload:
    name = path.relative_to(folder.parent).as_posix()
    label = mapped_label(name, LABEL_MAP) or Label.UNLABELLED
    return Upload(path.name, f"{label}/{name}", label, path)


def folder(text: str) -> Path:
    """Return the folder that an argument names. Raises ArgumentTypeError if there is none."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path.resolve()


def positive(text: str) -> int:
    """Return the number that an argument gives. Raises ArgumentTypeError below 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not how many: give a whole number from 1")
    return int(text)


def run(uploads: Sequence[Upload], console: Console) -> list[Outcome]:
    """Upload and follow, with a progress bar, until every file ended or nothing moves any more."""
    columns = TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        uploading = progress.add_task("uploaded", total=len(uploads))
        with _uploaders() as pool:
            ids = [_advance(progress, uploading, file_id) for file_id in pool.map(_upload, uploads)]
        ended = progress.add_task("ended", total=len(uploads))
        outcomes: list[Outcome] = []
        for outcomes in _follow(uploads, ids):
            progress.update(ended, completed=sum(outcome.is_complete for outcome in outcomes))
    return outcomes


def _advance(progress: Progress, task: TaskID, file_id: str) -> str:
    progress.advance(task)
    return file_id


@contextmanager
def _uploaders() -> Iterator[ThreadPoolExecutor]:
    """Threads that upload; on leaving early, what has not begun is not begun any more."""
    pool = ThreadPoolExecutor(_UPLOADS_AT_A_TIME)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _upload(upload: Upload) -> str:
    content = upload.read()
    storage.create(config.uploads_bucket(), upload.object_name, content, "application/octet-stream", {"source": "demo"})
    return scan.file_id(content)


def _follow(uploads: Sequence[Upload], ids: Sequence[str]) -> Iterator[list[Outcome]]:
    best, moved = -1, time.monotonic()
    while True:
        outcomes = _outcomes(uploads, ids)
        yield outcomes
        complete = sum(outcome.is_complete for outcome in outcomes)
        if complete > best:
            best, moved = complete, time.monotonic()
        if complete == len(uploads) or time.monotonic() - moved > _GIVE_UP_AFTER_S:
            return
        time.sleep(_POLL_S)


def _outcomes(uploads: Sequence[Upload], ids: Sequence[str]) -> list[Outcome]:
    unique = sorted(set(ids))
    scans: dict[tuple[str, str], list[Row]] = {}
    for row in bigquery.query(_SCANS, ids=unique):
        scans.setdefault((scan.file_id_of(row["scan_id"]), row["label"]), []).append(row)
    reasons = {(row["file_id"], row["label"]): row["reason"] for row in bigquery.query(_REJECTIONS, ids=unique)}
    keys = [(file_id, str(upload.label)) for upload, file_id in zip(uploads, ids, strict=True)]
    return [
        Outcome(upload, key[0], scans.get(key, []), reasons.get(key)) for upload, key in zip(uploads, keys, strict=True)
    ]


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return what became of each file, one line per scan."""
    shown = Table("scan", "file", "became", "label", "P(tumour)", "ms", title="What became of each file")
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    for row in rows[:_TABLE_ROWS]:
        shown.add_row(*row)
    if len(rows) > _TABLE_ROWS:
        shown.caption = f"and {len(rows) - _TABLE_ROWS:,} more: the dashboard's worklist shows them all"
    return shown


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    upload = outcome.upload
    name = escape(upload.name)
    if not outcome.scans:
        became = f"[yellow]{outcome.reason}[/]" if outcome.reason else "[red]still under way[/]"
        yield outcome.file_id[:12], name, became, upload.label, "", ""
    for row in outcome.scans:
        page = row["scan_id"].partition("-")[2]
        predicted = row["prediction"] is not None
        yield (
            f"{outcome.file_id[:12]}{f' page {int(page)}' if page else ''}",
            name,
            f"[green]accepted[/], {row['prediction']}" if predicted else "[red]accepted, not predicted yet[/]",
            upload.label,
            f"{row['probability']:.3f}" if predicted else "",
            f"{row['milliseconds']:,}" if predicted else "",
        )
