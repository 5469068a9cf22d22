"""The scans that later ones are compared with: a release's test, as its graph sees it."""

import numpy as np

from services.training.data.scans import Scans, inputs
from shared.labels import Label
from shared.ml import drift_records
from shared.ml.features import pixel_statistics
from shared.ml.model import Model

MOST = 2000
"""Scans of a reference: more make the checks slower and hardly sharper."""

_TOLD = ("source", "sequence", "plane", "format")
"""Columns of a scans' table that are compared with those of later scans."""


def drift_reference(model: Model, scans: Scans, seed: int = 0) -> drift_records.Scans:
    """Return what the pipeline would know of the test's scans; at most MOST of them, drawn at random."""
    rows = np.random.default_rng(seed).permutation(len(scans))[:MOST]
    tensors = [inputs(scans.images[row : row + 1])[0] for row in rows]
    predictions = [model.predict(tensor) for tensor in tensors]
    statistics = [pixel_statistics(tensor) for tensor in tensors]
    return drift_records.Scans(
        embeddings=np.array([prediction.embedding for prediction in predictions], np.float32),
        predicted=[model.predicted_class(prediction) for prediction in predictions],
        attributes={name: scans.table[name].iloc[rows].astype(str).tolist() for name in _TOLD}
        | {"label": np.where(scans.table["label"].iloc[rows] == 1, Label.CANCER, Label.NON_CANCER).tolist()},
        quality=np.array([[each[name] for name in drift_records.QUALITY] for each in statistics]),
    )
