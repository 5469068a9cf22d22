"""Prepared scans as rows of Parquet: what the Spark job writes and training reads."""

import hashlib
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa

from shared.imaging.preprocessing import PREPROCESSING_VERSION, SIDE
from shared.labels import Label
from shared.scan import file_id_of

FOLDER = f"scans/preprocessing={PREPROCESSING_VERSION}/"
"""Under it every label has its folder, `label=Cancer/` and so on."""

PARTITIONS = "partitions/"
"""Under it lie the results of every manifest's partitions."""

SHAPE = (SIDE, SIDE, 3)
IMAGE_BYTES = SIDE * SIDE * 3 * 4

TRAINING_SCANS = "training-scans"
"""Metadata of a prepared object: how many of its scans are in the training split, so that fitting need not open it."""

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("scan_id", pa.string()),
    pa.field("label", pa.string()),
    pa.field("source", pa.string()),
    # The folder's tumour type and a hash of the patient; null if nobody says. Training groups scans by the patient.
    pa.field("type", pa.string()),
    pa.field("person", pa.string()),
    pa.field("split", pa.string()),
    # As plain bytes the column writes four times as fast and a third smaller than as a list of floats.
    pa.field("image", pa.binary(IMAGE_BYTES), metadata={"content": "float32 128 x 128 x 3, 0 to 1"}),
    pa.field("preview", pa.binary()),
    pa.field("preprocessing_version", pa.string()),
]

SCHEMA = pa.schema(_FIELDS)

Split = Literal["train", "validation", "test"]


def prepared_object(label: Label | str, manifest: str, partition: int) -> str:
    """Return the name of the object with the scans of one label in one partition of a manifest."""
    return f"{FOLDER}label={label}/{manifest}-{partition:05d}.parquet"


def partitions_folder(manifest: str) -> str:
    """Return the folder of the results of a manifest's partitions.

    Results of another version of preprocessing lie elsewhere: a batch that goes on after a new version starts again.
    """
    return f"{PARTITIONS}preprocessing={PREPROCESSING_VERSION}/{manifest}/"


def partition_object(manifest: str, partition: int) -> str:
    """Return the name of the object with the result of one partition of a manifest."""
    return f"{partitions_folder(manifest)}{partition:05d}.json"


def split_of(scan_id: str) -> Split:
    """Eight tenths train, one validation, one test, by a hash of the file: its pages stay together, for ever.

    It keeps statistics honest, and cannot see that two files show one head: training groups near-twins by itself.
    """
    share = int.from_bytes(hashlib.sha256(file_id_of(scan_id).encode()).digest()[:4]) / 2**32
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def preview(tensor: np.ndarray) -> bytes:
    """A prepared scan (128, 128, 3) as a small grey PNG for people."""
    grey = np.rint(tensor[..., 0] * 255).astype(np.uint8)
    return cv2.imencode(".png", grey)[1].tobytes()


def tensors(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    """The scans of some rows, float32 (n, 128, 128, 3) in [0, 1]."""
    images: list[Any] = rows.column("image").to_pylist()
    return np.frombuffer(b"".join(images), np.float32).reshape(len(images), *SHAPE)
