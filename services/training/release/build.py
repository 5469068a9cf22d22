"""A release out of a fitted network and the predictions of the fits that left sources out."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training.data import ood_images
from services.training.data.scans import TYPES
from services.training.evaluation.checks import REFUSAL_FILE
from services.training.evaluation.left_out import TYPE_LOGITS
from services.training.evaluation.left_out_figures import scale_of
from services.training.experiment import SEED, Experiment, excluded_reasons, learnable
from services.training.modelling import calibration, export, ood
from services.training.modelling.export import Release

NOTHING_LEARNT = 1e6
"""Temperature of tumour types that no scan of the training told: all are equally probable."""


def build(
    network: keras.Model, left_out: pd.DataFrame, refusal: tuple[ood.OODClassifier, float], types_learnt: bool
) -> Release:
    """Return the network rounded as it ships, calibrated and cut on left-out predictions.

    `refusal` is the OOD classifier and its limit. `left_out` has source, label, type and logits of scans that the fit
    which predicted them never saw. Scans of the test are not used.
    """
    export.round_to_shipped(network)
    seen = left_out[left_out["part"] != "test"] if "part" in left_out else left_out
    scale = scale_of(seen)
    known = seen[seen["type"].isin(TYPES) & seen[TYPE_LOGITS].notna().all(axis=1)]
    temperature = calibration.type_temperature(
        known[TYPE_LOGITS].to_numpy(float), known["type"].map(list(TYPES).index).to_numpy(int)
    )
    return Release(
        network=network,
        slope=scale.slope,
        offset=scale.offset,
        threshold=scale.threshold,
        doubt=scale.doubt,
        temperature=temperature if types_learnt else NOTHING_LEARNT,
        ood=refusal[0],
        ood_limit=refusal[1],
    )


def refusal(experiment: Experiment, data: str) -> tuple[ood.OODClassifier, float]:
    """Return the OOD classifier and its limit, fitted if `data` holds other organs, else as fitted when it last did."""
    real = images_to_refuse(data)
    return fitted_refusal(experiment, real) if real else ood.read_fitted()


def images_to_refuse(data: str) -> dict[str, np.ndarray]:
    """Return the prepared images beside the scans that are no brain MRI, by kind; a bucket holds none."""
    return {} if data.startswith("gs://") else ood_images.read_real(Path(data))


def fitted_refusal(experiment: Experiment, real: dict[str, np.ndarray]) -> tuple[ood.OODClassifier, float]:
    """Return the OOD classifier and its limit, fitted on heads to train on, these images, and CT taken for heads.

    Nothing in it depends on the network that is released. How well it refuses what is left out goes to the folder.
    """
    reasons = experiment.excluded.table["scan_id"].map(excluded_reasons())
    among_heads = reasons.str.contains("is CT").to_numpy(bool) & (experiment.excluded_split != "test")
    if among_heads.any():
        real = real | {"head CT among the heads": experiment.excluded.images[among_heads]}
    seen = learnable(experiment)
    sources = experiment.scans.table["source"].to_numpy(str)[seen]
    rng = np.random.default_rng(SEED)
    examples = ood.read_examples(experiment.scans.images[seen], sources, experiment.groups[seen], real, rng)
    known = ood.units(examples)
    limit = ood.limit(examples, known)
    (experiment.folder / REFUSAL_FILE).write_text(json.dumps(ood.judge(examples, known, limit), indent=1))
    return ood.fit(examples, known), limit


def probabilities(release: Release, logits: np.ndarray) -> np.ndarray:
    """Return calibrated probabilities of Cancer."""
    return calibration.calibrated(logits, release.slope, release.offset)
