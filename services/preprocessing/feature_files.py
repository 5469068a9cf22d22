"""Features of the scans in one prepared object, written as Parquet as BigQuery loads it. Runs in the executors."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ai_edge_litert.interpreter import Interpreter

from services.preprocessing.partitions import parquet
from shared.gcp import registry, storage
from shared.imaging.preprocessing import PREPROCESSING_VERSION
from shared.ml.dataset import FOLDER, tensors
from shared.ml.features import compute_features, feature_version

_TEXT, _NUMBER, _TIME = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
_NUMBERS = pa.list_(pa.field("element", _NUMBER, nullable=False))


def _schema(**columns: pa.DataType) -> pa.Schema:
    """BigQuery loads a REQUIRED column only from one that cannot be null."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


FEATURES = _schema(
    scan_id=_TEXT,
    feature_version=_TEXT,
    label=_TEXT,
    source=_TEXT,
    mean=_NUMBER,
    std=_NUMBER,
    skewness=_NUMBER,
    kurtosis=_NUMBER,
    standardised_quantiles=_NUMBERS,
    embedding=_NUMBERS,
    principal_components=_NUMBERS,
    recorded_at=_TIME,
)
"""Columns of terraform/schemas/features.json."""

CNN_FEATURES = _schema(scan_id=_TEXT, backbone=_TEXT, label=_TEXT, source=_TEXT, embedding=_NUMBERS, recorded_at=_TIME)
"""Columns of terraform/schemas/cnn_features.json."""

ERRORS = _schema(manifest=_TEXT, scan_id=_TEXT, label=_TEXT, source=_TEXT, reason=_TEXT, recorded_at=_TIME)
"""Columns of terraform/schemas/preprocessing_errors.json."""

_BATCH = 16
"""Scans that the backbone and the basis take at a time."""


BACKBONE = Path(__file__).with_name("efficientnet-lite0.tflite")
"""ImageNet network for CNN features, exported by services.training.release.export_backbone; it ships with the job."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What computes the features: settled once by the driver, so that a release half-way changes nothing."""

    model: str
    """Version of the released model."""
    basis: str | None
    """Version of the PCA basis; None if none is fitted."""

    @property
    def feature_version(self) -> str:
        """Version of a features row."""
        return feature_version(self.model, self.basis)

    @property
    def backbone_version(self) -> str:
        """Version of a CNN features row."""
        return f"{BACKBONE.stem}-{_backbone_digest()}+{PREPROCESSING_VERSION}"

    @property
    def folders(self) -> tuple[str, str]:
        """Where features and CNN features are written."""
        return f"features/{self.feature_version}/", f"cnn_features/{self.backbone_version}/"

    def objects(self, prepared: str) -> tuple[str, str]:
        """Names of the objects with features and CNN features of a prepared object."""
        features, cnn_features = (folder + prepared.removeprefix(FOLDER) for folder in self.folders)
        return features, cnn_features


def write_features_of(bucket: str, prepared: str, spec: FeatureSpec) -> int:
    """Compute and write the features of the scans in a prepared object. Return how many scans there are."""
    table = pq.read_table(io.BytesIO(storage.read(bucket, prepared)), columns=["scan_id", "label", "source", "image"])
    images = tensors(table)
    scans = table.drop_columns("image").to_pylist()
    now = datetime.now(UTC)
    features, cnn_features = spec.objects(prepared)
    storage.write(bucket, cnn_features, *parquet(_cnn_rows(scans, images, spec, now), CNN_FEATURES))
    storage.write(bucket, features, *parquet(_rows(scans, images, spec, now), FEATURES))
    return len(scans)


def _rows(scans: list[dict[str, Any]], images: np.ndarray, spec: FeatureSpec, now: datetime) -> list[dict[str, Any]]:
    model = registry.load_model(spec.model)
    components = _components(spec.basis, images) if spec.basis else [None] * len(images)
    return [
        scan
        | compute_features(image, model.predict(image).embedding, components_of_scan)
        | {"feature_version": spec.feature_version, "recorded_at": now}
        for scan, image, components_of_scan in zip(scans, images, components, strict=True)
    ]


def _components(basis: str, images: np.ndarray) -> Iterator[np.ndarray]:
    project = registry.load_basis(basis).project
    return itertools.chain.from_iterable(project(batch) for batch in _batches(images))


def _cnn_rows(
    scans: list[dict[str, Any]], images: np.ndarray, spec: FeatureSpec, now: datetime
) -> list[dict[str, Any]]:
    embeddings = backbone_embeddings(images)
    return [
        scan | {"backbone": spec.backbone_version, "embedding": embedding, "recorded_at": now}
        for scan, embedding in zip(scans, embeddings, strict=True)
    ]


def backbone_embeddings(images: np.ndarray) -> np.ndarray:
    """Return features float32 (n, d) of the backbone for prepared scans (n, 128, 128, 3), computed batch by batch."""
    network = _backbone()
    embeddings = [_run(network, batch) for batch in _batches(images)]
    return np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))


@cache
def _backbone() -> Interpreter:
    """Return the network, loaded once per process."""
    return Interpreter(model_path=str(BACKBONE), num_threads=1)


@cache
def _backbone_digest() -> str:
    return sha256(BACKBONE.read_bytes()).hexdigest()[:8]


def _run(network: Interpreter, batch: np.ndarray) -> np.ndarray:
    (scan,), (embedding,) = network.get_input_details(), network.get_output_details()
    if tuple(scan["shape"]) != batch.shape:
        network.resize_tensor_input(scan["index"], batch.shape)
    network.allocate_tensors()
    network.set_tensor(scan["index"], batch)
    network.invoke()
    found: np.ndarray = network.get_tensor(embedding["index"])
    return found
