"""A short fit from the weights of the release in service, with corrections, that keeps the release's scale.

Either of the last layer alone, as near to the served one as home's scans ask, or of the whole network for some epochs.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from scipy.special import logit

from services.training import experiment as experiments
from services.training.data.corrections import Corrections
from services.training.data.scans import TYPES, Scans
from services.training.evaluation import left_out, measurements
from services.training.evaluation.left_out import TYPE_LOGITS
from services.training.experiment import Experiment
from services.training.finetuning.last_layer import Labelled, LastLayer, fitted_on
from services.training.finetuning.learning_set import DATA, LearningSet, ReadImages, joined
from services.training.modelling import calibration, export, fitting, ood
from services.training.modelling.export import Release
from services.training.modelling.restoring import restored, unfolded
from services.training.modelling.schedule import FINETUNING, Schedule
from services.training.release.writing import write_release
from shared.ml.model import Card, Model
from shared.ml.release_files import LEARNT_FILE

HOME_SCANS = 2000
"""Scans of home, drawn at random, beside which a last layer is fitted on."""
STATISTICS_ON = 512
"""Scans that the restored normalisations are measured on."""
FEWEST_TO_SCALE = 20
"""Scans of validation by which the new logits are brought to the release's scale."""


@dataclass(frozen=True, slots=True)
class Current:
    """The release to go on from."""

    model: Model
    graph: bytes


def finetune(
    experiment: Experiment,
    corrections: Corrections,
    read_images: ReadImages,
    current: Current,
    plan: Schedule = FINETUNING,
) -> Card:
    """Fit, and write the release to the experiment's folder, with what it learnt from beside it; return its card.

    A plan of no epochs fits the last layer alone. A later call with the same scans, corrections, release and plan
    resumes. Raises SystemExit for too little data.
    """
    folder = experiment.folder
    watched = experiment.scans.only(experiment.split == "validation")
    if len(watched) < FEWEST_TO_SCALE or not (experiment.split == "test").any():
        raise SystemExit(
            f"A fine-tune needs the release's test and at least {FEWEST_TO_SCALE} scans of validation in the data: "
            "give the data that the release was trained on, or more."
        )
    learning = joined(experiment, corrections, read_images)
    if plan.epochs:
        plan = replace(plan, start=_start(learning.scans, current, folder))
    run = experiments.run_folder_of(learning.scans, learning.copies, plan, folder / "runs" / "finetune")
    network = fitting.fit(learning.scans, learning.copies, plan, run) if plan.epochs else _relearnt(learning, current)
    run.mkdir(parents=True, exist_ok=True)
    release = inherited(network, current.model, watched)
    learnt = _learnt(learning, corrections, current.model.card.version)
    card = write_release(experiment, release, run, learnt)
    for place in (run, folder / "release"):
        learning.listed.to_csv(place / LEARNT_FILE, index=False)
    (run / "learnt_from.json").write_text(json.dumps(learnt, indent=1))
    return card


def _start(scans: Scans, current: Current, folder: Path) -> Path:
    """Write the release's weights, ready to learn, to a file that is the same for the same release and scans."""
    path = folder / "start" / f"{current.model.card.version}-{experiments.content_hash(scans)}.weights.h5"
    if not path.exists():
        rows = np.random.default_rng(0).permutation(len(scans))[:STATISTICS_ON]
        path.parent.mkdir(parents=True, exist_ok=True)
        unfolded(restored(current.graph), scans.images[rows]).save_weights(path)
    return path


def _relearnt(learning: LearningSet, current: Current) -> keras.Model:
    """Return the release's network with its last layer fitted on.

    Embeddings are the served graph's own. The layer is fitted on the scale of the release's probabilities.
    """
    network, once = restored(current.graph), learning.once()
    is_home = (learning.listed["basis"] == DATA).to_numpy()
    home = np.random.default_rng(0).permutation(np.flatnonzero(is_home))[:HOME_SCANS]
    rows = np.concatenate([home, np.flatnonzero(~is_home)])
    found = measurements.predict(current.model, once.images[rows])
    embeddings = np.array([one.embedding for one in found], float)
    labels, weights = once.table["label"].to_numpy()[rows], learning.listed["weight"].to_numpy(float)[rows]
    served = last_layer_of(network)
    slope, offset = matched(served.log_odds(embeddings), np.array([one.probability for one in found]))
    count = len(home)
    learnt = fitted_on(
        served.scaled(slope, offset),
        Labelled(embeddings[:count], labels[:count], weights[:count]),
        Labelled(embeddings[count:], labels[count:], weights[count:]),
    ).scaled(1 / slope, -offset / slope)
    network.get_layer("logit").set_weights([learnt.weights[:, np.newaxis], np.array([learnt.bias])])
    return network


def last_layer_of(network: keras.Model) -> LastLayer:
    """Return the layer of a network that gives its logit."""
    kernel, bias = (np.ravel(values).astype(float) for values in network.get_layer("logit").get_weights())
    return LastLayer(kernel, float(bias[0]))


def inherited(network: keras.Model, current: Model, watched: Scans) -> Release:
    """Return a release of a fine-tuned network on the scale of the one that it came from.

    That one's probabilities were calibrated on sources which its fits never saw; few corrections cannot do this again.
    So slope and offset are those with which the new logits agree best with the old probabilities on `watched`, and
    threshold and band of doubt stay.
    """
    export.round_to_shipped(network)
    found = left_out.predictions(network, watched, np.arange(len(watched)))
    before = np.array([one.probability for one in measurements.predict(current, watched.images)])
    slope, offset = matched(found["logit"].to_numpy(float), before)
    known = found[found["type"].isin(TYPES)]
    classifier, limit = ood.read_fitted()
    card = current.card
    return Release(
        network=network,
        slope=slope,
        offset=offset,
        threshold=card.threshold,
        doubt=doubt_of(card),
        temperature=calibration.type_temperature(
            known[TYPE_LOGITS].to_numpy(float), known["type"].map(list(TYPES).index).to_numpy(int)
        ),
        ood=classifier,
        ood_limit=limit,
    )


def doubt_of(card: Card) -> tuple[float, float]:
    """Return the probabilities between which a release's answers are uncertain; its threshold if it knows no doubt."""
    low, high = (card.threshold if value is None else value for value in (card.uncertain_from, card.uncertain_to))
    return low, high


def matched(logits: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return slope and offset with which `sigmoid(slope * logit + offset)` has the least cross-entropy to these."""
    targets = np.clip(probabilities, 1e-4, 1 - 1e-4)
    start = np.polyfit(logits, logit(targets), 1) if np.ptp(logits) > 0 else np.array([1.0, 0.0])
    return calibration.least_cross_entropy(logits, targets, start)


def _learnt(learning: LearningSet, corrections: Corrections, release: str) -> dict[str, object]:
    """What the card says of what was learnt: from which release on, and how many scans of which basis."""
    left = {reason: len(ids) for reason, ids in sorted(corrections.left_out.items())}
    return {"from_release": release, "scans": learning.summary(), "left_out": left}
