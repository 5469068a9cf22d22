"""Labelled scans to learn from: out of a folder of images, or out of the prepared bucket's Parquet."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from pydicom import dcmread
from tqdm import tqdm

from services.training.data import persons
from services.training.data.sources import TOLD, Told, box_in, read_boxes, read_sources, told_by_name
from shared.errors import RejectedScan
from shared.gcp import storage
from shared.imaging import decoding
from shared.imaging.preprocessing import PREPROCESSING_VERSION, SIDE, crop_box, prepare
from shared.labels import LABEL_MAP, Label, label_folder
from shared.ml import dataset
from shared.scan import file_id, file_id_of, scan_id

TYPES = ("glioma", "meningioma", "pituitary")
"""Tumour types; a folder of one of these names tells it."""

_TABLE_FORMAT = "5"
"""Changes with the columns of a scans' table, so that an older cache is not read."""

_MOST_BYTES = 9 << 30
"""Of Parquet that is learnt from, some 300,000 scans: the training job has 32 GiB, its files included, and 12 hours."""

Row = tuple[dict[str, Any], np.ndarray]


@dataclass(frozen=True)
class Scans:
    """Scans in order of their ids."""

    table: pd.DataFrame
    """scan_id, label (1 Cancer, 0 Non-Cancer), type, person (a hash) and person_from (see `persons`), source, sequence,
    plane, skull, format, mode, width, height, files (how many hold the same bytes under the same label), and box_x,
    box_y, box_width, box_height: the tumour's box in the prepared image's pixels. Text is empty where unknown, a box
    0 wide."""
    images: np.ndarray
    """uint8 (n, 128, 128): what `preprocessing.prepare` returns, one channel of the equal three, times 255."""

    def __len__(self) -> int:
        return len(self.table)

    def only(self, rows: np.ndarray) -> "Scans":
        """Return the rows with these positions, or those for which this mask holds."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Scans(self.table.iloc[rows].reset_index(drop=True), self.images[rows])

    def inputs(self) -> np.ndarray:
        """Return the network's input, float32 (n, 128, 128, 3) in [0, 1]."""
        return inputs(self.images)


def inputs(images: np.ndarray) -> np.ndarray:
    """Return uint8 images (n, h, w) as the network's input, float32 (n, h, w, 3) in [0, 1]."""
    return np.repeat(images[..., None].astype(np.float32) / np.float32(255), 3, axis=3)


def as_bytes(tensor: np.ndarray) -> np.ndarray:
    """Return a prepared scan, float32 (128, 128, 3), as uint8 (128, 128); nothing is lost."""
    return np.rint(tensor[..., 0] * 255).astype(np.uint8)


def read(data: str, wanted: frozenset[str] = frozenset()) -> Scans:
    """Return the scans of a folder of images, or of a prepared bucket (`gs://BUCKET`). Exact duplicates count once.

    A bucket that holds more than a training can take is sampled: file by file, by the hash that is its id, so that a
    later call draws the same; `wanted` scans are always among them. Raises SystemExit if there is no labelled scan.
    """
    rows = _bucket_rows(data.removeprefix("gs://"), wanted) if data.startswith("gs://") else _folder_rows(Path(data))
    if not rows:
        raise SystemExit(f"No labelled scan in {data}. Its folders must be called {', '.join(LABEL_MAP)}.")
    table = pd.DataFrame([row for row, _ in rows])
    images = np.stack([image for _, image in rows])
    table = persons.with_runs(table, images)
    table["files"] = table.groupby(["scan_id", "label"])["scan_id"].transform("size")
    order = table.sort_values(["scan_id", "label"]).drop_duplicates(["scan_id", "label"]).index.to_numpy()
    return Scans(table, images).only(order)


def read_cached(data: str, cache: Path, wanted: frozenset[str] = frozenset()) -> Scans:
    """Return `read`'s scans, kept in the folder `cache` for as long as data and preprocessing stay the same."""
    drawn = sorted(wanted) if data.startswith("gs://") else []
    key = digest([PREPROCESSING_VERSION, _TABLE_FORMAT, *_listing(data), *drawn])
    table, images = cache / f"{key}.csv", cache / f"{key}.npy"
    if not images.exists():
        scans = read(data, wanted)
        cache.mkdir(parents=True, exist_ok=True)
        scans.table.to_csv(table, index=False)
        np.save(images, scans.images)
    text: dict[Any, Any] = dict.fromkeys(
        ("scan_id", "type", "person", "person_from", "source", *TOLD, "format", "mode"), str
    )
    return Scans(pd.read_csv(table, keep_default_na=False, dtype=text), np.load(images))


def digest(lines: list[str]) -> str:
    """Return 16 hexadecimal digits that differ if any line does."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _listing(data: str) -> list[str]:
    """Names and sizes of what would be read."""
    if data.startswith("gs://"):
        return [f"{blob.name} {blob.size}" for blob in storage.objects(data.removeprefix("gs://"), dataset.FOLDER)]
    return sorted(f"{path} {path.stat().st_size}" for path in Path(data).rglob("*") if path.is_file())


def _folder_rows(folder: Path) -> list[Row]:
    """One row per page of every file that lies in a folder with a label, however deep."""
    told, boxes = read_sources(folder), read_boxes(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and label_of(_kind(folder, path)))
    with ThreadPoolExecutor() as threads:
        rows = threads.map(lambda path: _file_rows(folder, path, told, boxes), files)
        return [row for found in tqdm(rows, total=len(files), desc="Reading scans") for row in found]


def _kind(folder: Path, path: Path) -> str:
    """Return the folder that gives a file its label, in lower case, as uploading finds it; empty if there is none."""
    return label_folder(path.relative_to(folder.parent).as_posix()) or ""


def label_of(folder: str) -> Label | None:
    """Return the label that a folder's name tells: Cancer or Non-Cancer, else None."""
    label = LABEL_MAP.get(folder.lower())
    return None if label is Label.UNLABELLED else label


def _file_rows(folder: Path, path: Path, told: dict[str, Told], boxes: dict[str, np.ndarray]) -> list[Row]:
    content, name = path.read_bytes(), str(path.relative_to(folder))
    try:
        decoded = decoding.decode(content)
        pages = list(decoded.pages)
    except RejectedScan:
        return []
    kind, top = _kind(folder, path), path.relative_to(folder).parts[0]
    known = {
        "label": int(label_of(kind) is Label.CANCER),
        "type": kind if kind in TYPES else "",
        "source": "unknown" if label_of(top) else top,
        "format": decoded.format,
        "mode": "DICOM" if decoded.format == "DICOM" else Image.open(io.BytesIO(content)).mode,
        "file": name,
    }
    known |= told.get(name, told_by_name(name))
    if decoded.format == "DICOM":
        known |= _dicom_person(content)
    box = boxes.get(name)
    return [
        (
            {"scan_id": scan_id(file_id(content), number, len(pages))}
            | known
            | {"width": page.shape[1], "height": page.shape[0]}
            | box_in(box, page.shape, crop_box(page)),
            as_bytes(prepare(page)),
        )
        for number, page in enumerate(pages)
    ]


def _dicom_person(content: bytes) -> dict[str, str]:
    """A hash that is the same for one patient's DICOM files, which must not stand on both sides of a split."""
    header = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["PatientID"], force=True)
    known = str(header.get("PatientID", ""))
    return {"person": persons.hashed(known), "person_from": "told"} if known else {}


def _bucket_rows(bucket: str, wanted: frozenset[str]) -> list[Row]:
    parts = list(storage.objects(bucket, dataset.FOLDER))
    share = min(1.0, _MOST_BYTES / max(1, sum(part.size for part in parts)))
    return [
        (known, image)
        for part in tqdm(parts, desc="Reading Parquet")
        for known, image in parquet_rows(storage.read(bucket, part.name))
        if known["scan_id"] in wanted or _place(known["scan_id"]) < share
    ]


def _place(scan: str) -> float:
    """Return where a scan's file stands among all, from 0 to 1: the same for every page of it."""
    return int(hashlib.sha256(file_id_of(scan).encode()).hexdigest()[:8], 16) / 16**8


def parquet_rows(content: bytes) -> list[Row]:
    """Return the labelled rows of one prepared object (columns of `shared.ml.dataset.SCHEMA`) with their images."""
    rows = pq.read_table(io.BytesIO(content))
    return [
        (_parquet_row(row), as_bytes(tensor))
        for row, tensor in zip(rows.drop_columns(["image"]).to_pylist(), dataset.tensors(rows), strict=True)
        if row["label"] != Label.UNLABELLED
    ]


def _parquet_row(row: dict[str, Any]) -> dict[str, Any]:
    person, tumour = row.get("person") or "", row.get("type") or ""
    return (
        {
            "scan_id": row["scan_id"],
            "label": int(row["label"] == Label.CANCER),
            "type": tumour if tumour in TYPES else "",
            "source": row["source"],
            "person": person,
            "person_from": "told" if person else "",
            "format": "",
            "mode": "",
            "file": "",
            "width": SIDE,
            "height": SIDE,
        }
        | dict.fromkeys(TOLD, "")
        | box_in(None, (SIDE, SIDE), (0, 0, SIDE))
    )
