"""A release as it is, but for what it refuses: its OOD classifier fitted again, with other organs or heads at hand."""

import shutil
from pathlib import Path

import numpy as np
from scipy.special import logit

from services.training.data import ood_images
from services.training.data.scans import Scans
from services.training.evaluation import left_out, measurements
from services.training.evaluation.left_out import TYPE_LOGITS
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current, doubt_of
from services.training.modelling import ood
from services.training.modelling.export import Release
from services.training.modelling.restoring import restored
from services.training.release import build
from services.training.release.writing import write_release
from shared.ml.model import Card, read_release
from shared.ml.release_files import GRAPH_FILE, LEARNT_FILE

_READ_FROM = 200
"""Scans whose answers give away the scale of a release: they are read from, and nothing is learnt."""


def refit_refusal(experiment: Experiment, data: str, release: Path) -> Card:
    """Write the release in a folder with its refusal fitted again to the experiment's folder; return its card.

    What its network learnt from goes along: the erasure of a scan asks for it. Raises SystemExit if there are no other
    images beside the scans.
    """
    real = build.images_to_refuse(data)
    if not real:
        raise SystemExit(
            f"Nothing to refuse lies beside the scans: put images of other organs into {ood_images.FOLDER} in DATA."
        )
    current = Current(read_release(release), (release / GRAPH_FILE).read_bytes())
    rows = np.flatnonzero(experiment.split != "test")
    some = np.random.default_rng(0).choice(rows, min(_READ_FROM, len(rows)), replace=False)
    anew = unchanged_but_for(build.fitted_refusal(experiment, real), current, experiment.scans.only(some))
    run = experiment.folder / "runs" / f"refusal-of-{current.model.card.version}"
    card = write_release(experiment, anew, run, {"from_release": current.model.card.version, "refusal": sorted(real)})
    if (release / LEARNT_FILE).exists():
        shutil.copy(release / LEARNT_FILE, experiment.folder / "release")
    return card


def unchanged_but_for(refusal: tuple[ood.OODClassifier, float], current: Current, scans: Scans) -> Release:
    """Return a release with another OOD classifier and limit; network, scale, threshold, doubt and types stay.

    Slope, offset and temperature are those that lead from the network's logits to the release's answers on `scans`.
    """
    network, card = restored(current.graph), current.model.card
    found = left_out.predictions(network, scans, np.arange(len(scans)))
    answers = measurements.predict(current.model, scans.images)
    probabilities = np.array([one.probability for one in answers])
    # Single precision tells small shares exactly, and hardly those beside 1.
    known = (probabilities > 1e-9) & (probabilities < 1 - 1e-3)
    slope, offset = np.polyfit(found["logit"].to_numpy(float)[known], logit(probabilities[known]), 1)
    types = np.array([[one.types[name] for name in card.tumour_types] for one in answers])
    told = (types > 1e-12).all(axis=1)
    logits, served = found[TYPE_LOGITS].to_numpy(float)[told], np.log(types[told])
    apart, as_served = (values - values.mean(axis=1, keepdims=True) for values in (logits, served))
    return Release(
        network=network,
        slope=float(slope),
        offset=float(offset),
        threshold=card.threshold,
        doubt=doubt_of(card),
        temperature=float((apart**2).sum() / (apart * as_served).sum()),
        ood=refusal[0],
        ood_limit=refusal[1],
    )
