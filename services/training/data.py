"""Scans to learn from: out of a folder of images, or out of the prepared bucket's Parquet."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from pydicom import dcmread
from tqdm import tqdm

from shared.errors import RejectedScan
from shared.gcp import storage
from shared.imaging import decoding
from shared.imaging.preprocessing import PREPROCESSING_VERSION, prepare
from shared.labels import LABEL_MAP, Label, label_folder
from shared.ml import dataset
from shared.scan import file_id, scan_id

TUMOUR_TYPES = ("glioma", "meningioma", "pituitary")
"""Folders that name the tumour's type."""

_FORM = "2"
"""Changes with the columns of a scans' table, so that no older one is read from the cache."""


@dataclass(frozen=True)
class Scans:
    """Scans in order of their ids."""

    table: pd.DataFrame
    """scan_id, label (1 Cancer, 0 Non-Cancer), type, patient (a hash; both empty where unknown), source, format, mode,
    width, height, files (how many hold the same bytes under the same label)."""
    images: np.ndarray
    """uint8 (n, 128, 128): what `preprocessing.prepare` returns, one channel of the equal three, times 255."""

    def __len__(self) -> int:
        return len(self.table)

    def only(self, rows: np.ndarray) -> "Scans":
        """The rows with these positions, or where this mask holds."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Scans(self.table.iloc[rows].reset_index(drop=True), self.images[rows])

    def inputs(self) -> np.ndarray:
        """The network's input, float32 (n, 128, 128, 3) in [0, 1]."""
        return inputs(self.images)


def inputs(images: np.ndarray) -> np.ndarray:
    """uint8 (n, 128, 128) as the network's input, float32 (n, 128, 128, 3) in [0, 1]."""
    return np.repeat(images[..., None].astype(np.float32) / np.float32(255), 3, axis=3)


def read(data: str) -> Scans:
    """The scans of a folder of images, or of a prepared bucket (`gs://BUCKET`). Exact duplicates count once."""
    rows = _bucket_rows(data.removeprefix("gs://")) if data.startswith("gs://") else _folder_rows(Path(data))
    if not rows:
        raise SystemExit(f"No labelled scan in {data}. Its folders must be called {', '.join(LABEL_MAP)}.")
    table = pd.DataFrame([row for row, _ in rows])
    images = np.stack([image for _, image in rows])
    table["files"] = table.groupby(["scan_id", "label"])["scan_id"].transform("size")
    order = table.sort_values(["scan_id", "label"]).drop_duplicates(["scan_id", "label"]).index.to_numpy()
    return Scans(table, images).only(order)


def read_cached(data: str, cache: Path) -> Scans:
    """As `read`, keeping what it read in the folder `cache` for as long as data and preprocessing stay the same."""
    key = hashlib.sha256("\n".join([PREPROCESSING_VERSION, _FORM, *_listing(data)]).encode()).hexdigest()[:16]
    table, images = cache / f"{key}.csv", cache / f"{key}.npy"
    if not images.exists():
        scans = read(data)
        cache.mkdir(parents=True, exist_ok=True)
        scans.table.to_csv(table, index=False)
        np.save(images, scans.images)
    return Scans(pd.read_csv(table, keep_default_na=False), np.load(images))


def _listing(data: str) -> list[str]:
    """Names and sizes of what would be read."""
    if data.startswith("gs://"):
        return [f"{blob.name} {blob.size}" for blob in storage.objects(data.removeprefix("gs://"), dataset.FOLDER)]
    return sorted(f"{path} {path.stat().st_size}" for path in Path(data).rglob("*") if path.is_file())


def _folder_rows(folder: Path) -> list[tuple[dict, np.ndarray]]:
    """One row a page. The source is the first folder below `folder`, unless that already names a label."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _label_folder(folder, path))
    with ThreadPoolExecutor() as threads:
        found = tqdm(threads.map(lambda path: _file_rows(folder, path), files), total=len(files), desc="Reading scans")
        return [row for rows in found for row in rows]


def _label_folder(folder: Path, path: Path) -> str:
    """Folder that gives a file its label, as shared.labels knows it; empty for a file without a label."""
    named = label_folder(path.relative_to(folder.parent).as_posix())
    return named if named and LABEL_MAP[named] is not Label.UNLABELLED else ""


def _file_rows(folder: Path, path: Path) -> list[tuple[dict, np.ndarray]]:
    content = path.read_bytes()
    named = _label_folder(folder, path)
    source = path.relative_to(folder).parts[0]
    try:
        decoded = decoding.decode(content)
        pages = list(decoded.pages)
    except RejectedScan:
        return []
    known = {
        "label": int(LABEL_MAP[named] is Label.CANCER),
        "type": named if named in TUMOUR_TYPES else "",
        "source": "unknown" if source.lower() in LABEL_MAP else source,
        "patient": _patient(content) if decoded.format == "DICOM" else "",
        "format": decoded.format,
        "mode": _mode(content, decoded.format),
    }
    return [
        (
            {"scan_id": scan_id(file_id(content), number, len(pages))}
            | known
            | {"width": page.shape[1], "height": page.shape[0]},
            _stored(prepare(page)),
        )
        for number, page in enumerate(pages)
    ]


def _mode(content: bytes, file_format: str) -> str:
    """Grey or colour as the file keeps it, which is a shortcut that the audit measures."""
    return "DICOM" if file_format == "DICOM" else Image.open(io.BytesIO(content)).mode


def _patient(content: bytes) -> str:
    """A hash that is the same for one patient's DICOM files, which must not stand on both sides of a split."""
    header = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["PatientID"], force=True)
    known = str(header.get("PatientID", ""))
    return hashlib.sha256(known.encode()).hexdigest() if known else ""


def _bucket_rows(bucket: str) -> list[tuple[dict, np.ndarray]]:
    parts = [blob.name for blob in storage.objects(bucket, dataset.FOLDER)]
    return [row for part in tqdm(parts, desc="Reading Parquet") for row in _part_rows(storage.read(bucket, part))]


def _part_rows(content: bytes) -> list[tuple[dict, np.ndarray]]:
    rows = pq.read_table(io.BytesIO(content))
    return [
        (_parquet_row(row), _stored(tensor))
        for row, tensor in zip(rows.drop_columns(["image"]).to_pylist(), dataset.tensors(rows), strict=True)
        if row["label"] != Label.UNLABELLED
    ]


def _parquet_row(row: dict) -> dict:
    known = {"scan_id": row["scan_id"], "label": int(row["label"] == Label.CANCER), "source": row["source"]}
    return known | {"type": "", "patient": "", "format": "", "mode": "", "width": 0, "height": 0}


def _stored(tensor: np.ndarray) -> np.ndarray:
    return np.rint(tensor[..., 0] * 255).astype(np.uint8)
