"""What readers and folders say of the scans that came through the pipeline, as labels to learn from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from services.training.data.scans import Scans, as_bytes
from services.training.data.sources import TOLD
from shared import config
from shared.gcp import bigquery, storage
from shared.gcp.bigquery import Row
from shared.imaging import decoding
from shared.imaging.preprocessing import prepare
from shared.labels import Label
from shared.ml.prediction import CANNOT_TELL
from shared.review_sample import in_review_sample
from shared.scan import SYNTHETIC, file_id_of, page_of

WEIGHTS = {"corrected": 4, "confirmed": 2, "folder": 1}
"""How often a scan stands in the list that is drawn from: a reader who corrected the answer says what the release
lacks; one who confirmed it, that a label is right; a folder alone is what somebody once sorted."""
MOST_OF_FOLDERS = 2000
"""Scans with no other label than their folder's: the newest."""
_LABELS = {Label.CANCER.value: 1, Label.NON_CANCER.value: 0}


@dataclass(frozen=True)
class Corrections:
    """Labels to learn from."""

    table: pd.DataFrame
    """scan_id, label (1 Cancer, 0 Non-Cancer), source, object_name, basis (a key of WEIGHTS), weight, readers; one row
    a scan, in order of the ids."""
    left_out: dict[str, frozenset[str]]
    """Ids of scans that are not learnt from, by reason."""

    def __len__(self) -> int:
        return len(self.table)


def read_corrections(most_of_folders: int = MOST_OF_FOLDERS) -> Corrections:
    """Return the labels that the tables hold now. Raises BigQueryError."""
    said = """
    SELECT scan_id, IFNULL(reader_id, feedback_id) AS reader, reading, prediction, given_at FROM `{dataset}.feedback`
    """
    heard = """
    SELECT scan_id, label, source, object_name, accepted_at FROM `{dataset}.scans`
    WHERE scan_id IN (SELECT scan_id FROM `{dataset}.feedback`)
    """
    labelled = f"""
    SELECT scan_id, label, source, object_name, accepted_at FROM `{{dataset}}.scans`
    WHERE label != 'Unlabelled' AND source != @synthetic ORDER BY accepted_at DESC LIMIT {int(most_of_folders)}
    """  # noqa: S608 - a whole number
    return decided(
        map(dict, bigquery.stream(said)),
        [*map(dict, bigquery.stream(heard)), *map(dict, bigquery.stream(labelled, synthetic=SYNTHETIC))],
    )


def decided(feedback: Iterable[Row], scans: Iterable[Row]) -> Corrections:
    """Return what is learnt of each scan that was accepted.

    `feedback`: scan_id, reader, reading, prediction, given_at; the latest of a reader counts, whatever the release.
    `scans`: scan_id, label, source, object_name. Readers overrule folders. Left out are scans of the sample that
    measures, those of which two readers, or two folders, say different things, and what readers take for no brain MRI.
    """
    said = _latest(feedback)
    rows: list[dict[str, Any]] = []
    left: dict[str, set[str]] = {}
    for scan_id, accepted in sorted(_by_scan(scans).items()):
        heard = [row for row in said.get(scan_id, []) if row["reading"] != CANNOT_TELL]
        reason, found = _decision(scan_id, heard, {str(row["label"]) for row in accepted} & _LABELS.keys())
        if reason:
            left.setdefault(reason, set()).add(scan_id)
        elif found:
            basis = _basis(found, heard)
            one = accepted[0]
            rows.append(
                {
                    "scan_id": scan_id,
                    "label": _LABELS[found],
                    "source": one["source"],
                    "object_name": one["object_name"],
                }
                | {"basis": basis, "weight": WEIGHTS[basis], "readers": len(heard)}
            )
    columns = ["scan_id", "label", "source", "object_name", "basis", "weight", "readers"]
    return Corrections(pd.DataFrame(rows, columns=columns), {why: frozenset(ids) for why, ids in left.items()})


def _decision(scan_id: str, heard: list[Row], folders: set[str]) -> tuple[str, str]:
    """Return why a scan is left out, or its label; neither if nobody said anything of it."""
    readings = {str(row["reading"]) for row in heard}
    if in_review_sample(scan_id):
        return "in the sample that measures", ""
    if len(readings) > 1:
        return "readers disagree", ""
    if readings:
        (reading,) = readings
        return ("", reading) if reading in _LABELS else ("no brain MRI, a reader says", "")
    if len(folders) > 1:
        return "in folders of both labels", ""
    return "", next(iter(folders), "")


def _basis(label: str, heard: list[Row]) -> str:
    if not heard:
        return "folder"
    return "corrected" if any(row["prediction"] != label for row in heard) else "confirmed"


def _latest(feedback: Iterable[Row]) -> dict[str, list[Row]]:
    """The latest of each reader on each scan, by scan."""
    last: dict[tuple[str, str], Row] = {}
    for row in sorted(feedback, key=lambda row: row["given_at"]):
        last[row["scan_id"], row["reader"]] = row
    found: dict[str, list[Row]] = {}
    for (scan_id, _), row in last.items():
        found.setdefault(scan_id, []).append(row)
    return found


def _by_scan(scans: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of the accepted scans by id, once for each label."""
    found: dict[str, dict[str, Row]] = {}
    for row in scans:
        found.setdefault(row["scan_id"], {})[row["label"]] = row
    return {scan_id: [*rows.values()] for scan_id, rows in found.items()}


def read_images(corrections: Corrections, wanted: np.ndarray) -> Scans:
    """Return the scans of these rows (a mask) out of the scans bucket, prepared. Raises StorageError."""
    rows = corrections.table[wanted].reset_index(drop=True)
    bucket = config.scans_bucket()
    images = [as_bytes(prepare(_page(storage.read(bucket, name)))) for name in rows["object_name"]]
    return as_scans(rows, np.stack(images) if images else np.zeros((0, 128, 128), np.uint8))


def _page(content: bytes) -> np.ndarray:
    """The only page of an object of the scans bucket."""
    (page,) = decoding.decode(content).pages
    return page


def as_scans(rows: pd.DataFrame, images: np.ndarray) -> Scans:
    """Return corrections (scan_id, label, source) with their prepared images as scans to learn from.

    Pages of one file are of one person; of single files nobody says whose they are.
    """
    paged = rows["scan_id"].map(lambda scan_id: page_of(scan_id) is not None).to_numpy(bool)
    text: dict[str, Any] = dict.fromkeys(("type", *TOLD, "format", "mode"), "")
    boxes = dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), 0.0)
    table = rows[["scan_id", "label", "source"]].assign(
        person=np.where(paged, rows["scan_id"].map(file_id_of), ""),
        person_from=np.where(paged, "told", ""),
        width=images.shape[2],
        height=images.shape[1],
        files=1,
        **text,
        **boxes,
    )
    return Scans(table, images)
