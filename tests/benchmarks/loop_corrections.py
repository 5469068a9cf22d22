"""A new site, learnt from its readers: corrections out of the review queue against as many at random.

The site is the block of sources that the fit under `--folder` (`make crossvalidate`) never saw. Half of its groups send
scans that readers may look at, the other half measures. The last layer is fitted on as `make finetune` does
(`services/training/finetuning/last_layer.py`), on embeddings that are computed once, so that every number of
corrections can be tried; `finetune` itself then makes the release with 100 from the queue, which goes through the
offline criteria, shadow and canary.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from services.training import experiment as experiments
from services.training.data.corrections import WEIGHTS, Corrections
from services.training.data.scans import Scans
from services.training.evaluation import left_out, metrics
from services.training.evaluation.blocks import BLOCKS
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current, finetune, last_layer_of
from services.training.finetuning.last_layer import Labelled, LastLayer, fitted_on
from services.training.modelling import calibration, export, ood
from services.training.modelling.calibration import Scale
from services.training.modelling.network import network
from services.training.release import promotion
from shared.ml.model import Model, read_release
from shared.ml.release_files import GRAPH_FILE, REFERENCE_FILE, TEST_FILE
from tests.benchmarks import loop_gate

BLOCK = BLOCKS[0]
COUNTS = (10, 25, 50, 100, 200)
REPORTED = 100
HOME_SCANS = 2000
SHARE_OF_SITE, LIVE_SCANS = 0.25, 400


@dataclass(frozen=True)
class Seen:
    """Scans as the fit that is in service sees them."""

    embeddings: np.ndarray
    """float (n, 160)."""
    labels: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    """Of the experiment."""

    def only(self, places: np.ndarray) -> "Seen":
        """Return the scans at these places, or those for which this mask holds."""
        return Seen(self.embeddings[places], self.labels[places], self.groups[places], self.rows[places])


def _calls(scale: Scale, layer: LastLayer, seen: Seen) -> np.ndarray:
    """Return which scans a layer calls Cancer at the operating point of the release in service."""
    return np.asarray(layer.log_odds(seen.embeddings) >= logit(scale.threshold))


def measured(data: Path, folder: Path) -> dict[str, object]:
    """Try every number of corrections; print the table, and return the figures."""
    experiment = experiments.read_experiment(str(data.resolve()), folder)
    fit = _left_out_fit(experiment)
    of_site = BLOCK.rows(experiment.scans.table)
    home = (experiment.split != "test") & ~of_site
    rng = np.random.default_rng(0)
    some = rng.permutation(np.flatnonzero(home))[:HOME_SCANS]
    site, known = _seen(fit, experiment, np.flatnonzero(of_site)), _seen(fit, experiment, some)
    tested = _seen(fit, experiment, np.flatnonzero((experiment.split == "test") & ~of_site))
    scale = _scale(experiment, fit)
    before = last_layer_of(fit).scaled(scale.slope, scale.offset)
    arrived, kept = _halves(site, rng)
    orders = {"queue": _queue(before, scale, arrived), "random": rng.permutation(len(arrived.labels))}
    at_home = Labelled(known.embeddings, known.labels, np.ones(len(known.labels)))
    rows = {
        (name, count): fitted_on(before, at_home, _corrected(before, arrived.only(order[:count]), scale))
        for count in COUNTS
        for name, order in orders.items()
    }
    figures = _figures(before, rows, kept, tested, scale)
    learnt = arrived.only(orders["queue"][:REPORTED])
    return figures | _through_the_gate(experiment, fit, scale, learnt, kept)


def _left_out_fit(experiment: Experiment) -> keras.Model:
    runs = left_out.known_runs(experiment) or {}
    if BLOCK.name not in runs:
        raise SystemExit(f"There is no fit without block {BLOCK.name}: run `make crossvalidate` first.")
    fit = network()
    fit.load_weights(Path(runs[BLOCK.name]) / "last.weights.h5")
    export.round_to_shipped(fit)
    return fit


def _seen(fit: keras.Model, experiment: Experiment, rows: np.ndarray) -> Seen:
    scans = experiment.scans.only(rows)
    outputs = export.mirrored_outputs(fit).predict(scans.inputs(), batch_size=64, verbose=0)
    return Seen(outputs["embedding"].astype(float), scans.table["label"].to_numpy(), experiment.groups[rows], rows)


def _halves(site: Seen, rng: np.random.Generator) -> tuple[Seen, Seen]:
    """Return the scans that arrive and those that measure, whole groups on one side."""
    chosen = rng.permutation(np.unique(site.groups))
    arrives = np.isin(site.groups, chosen[: len(chosen) // 2])
    return site.only(arrives), site.only(~arrives)


def _scale(experiment: Experiment, fit: keras.Model) -> Scale:
    """Return calibration and threshold as a release of this fit would have them, on home's validation."""
    rows = np.flatnonzero((experiment.split == "validation") & ~BLOCK.rows(experiment.scans.table))
    seen = _seen(fit, experiment, rows)
    sources = experiment.scans.table["source"].to_numpy(str)[rows]
    logits = last_layer_of(fit).log_odds(seen.embeddings)
    stripped = (experiment.scans.table["skull"] == "stripped").to_numpy()[rows]
    return calibration.scale(logits, seen.labels, sources, stripped)


def _queue(layer: LastLayer, scale: Scale, arrived: Seen) -> np.ndarray:
    """Return the order in which the review queue shows scans: the nearest to the threshold first."""
    return np.argsort(np.abs(expit(layer.log_odds(arrived.embeddings)) - scale.threshold), kind="stable")


def _bases(layer: LastLayer, seen: Seen, scale: Scale) -> np.ndarray:
    """Return whether a reader corrects or confirms what the release in service says of each scan."""
    return np.where(_calls(scale, layer, seen) != (seen.labels == 1), "corrected", "confirmed")


def _corrected(layer: LastLayer, seen: Seen, scale: Scale) -> Labelled:
    weights = np.array([WEIGHTS[basis] for basis in _bases(layer, seen, scale)], float)
    return Labelled(seen.embeddings, seen.labels, weights)


def _figures(
    before: LastLayer, rows: dict[tuple[str, int], LastLayer], kept: Seen, tested: Seen, scale: Scale
) -> dict[str, object]:
    at_site = {
        key: metrics.sensitivity_at(kept.labels, layer.log_odds(kept.embeddings), 0.95)
        for key, layer in {("none", 0): before, **rows}.items()
    }
    at_home = {
        key: roc_auc_score(tested.labels, layer.log_odds(tested.embeddings))
        for key, layer in {("none", 0): before, **rows}.items()
    }
    change = {key: _change(before, layer, tested, scale) for key, layer in rows.items()}
    print(f"{'corrections':16} {'sensitivity':>12} {'AUC at home':>12} {'change of accuracy at home':>32}")
    for (name, count), found in at_site.items():
        moved = change.get((name, count))
        print(
            f"{name:8} {count:6}  {found:12.3f} {at_home[name, count]:12.4f} "
            + (f"{moved[0]:+.4f} ({moved[1]:+.4f} to {moved[2]:+.4f})" if moved else "")
        )
    queue, random = ("queue", REPORTED), ("random", REPORTED)
    return {
        "corrections": REPORTED,
        "sensitivity_before": at_site["none", 0],
        "sensitivity_after": at_site[queue],
        "sensitivity_after_at_random": at_site[random],
        "home_auc_before": at_home["none", 0],
        "home_auc_after": at_home[queue],
        "home_accuracy_change": change[queue][0],
        "home_accuracy_change_low": change[queue][1],
        "home_accuracy_change_high": change[queue][2],
        **{f"sensitivity, {count} by {name}": value for (name, count), value in at_site.items()},
    }


def _change(before: LastLayer, after: LastLayer, tested: Seen, scale: Scale) -> tuple[float, float, float]:
    """Return by how much accuracy at home changes, with the 95% interval of groups drawn again."""
    tumour = tested.labels == 1
    right = [_calls(scale, layer, tested) == tumour for layer in (before, after)]
    gained = right[1].astype(float) - right[0]
    rng, groups = np.random.default_rng(0), np.unique(tested.groups)
    of_group = [np.flatnonzero(tested.groups == group) for group in groups]
    drawn = [
        gained[np.concatenate([of_group[i] for i in rng.integers(len(groups), size=len(groups))])].mean()
        for _ in range(400)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gained.mean()), float(low), float(high)


def _through_the_gate(
    experiment: Experiment, fit: keras.Model, scale: Scale, learnt: Seen, kept: Seen
) -> dict[str, object]:
    """Export the fit as the release in service, fine-tune that on the corrections, and try to promote the result."""
    of_site = BLOCK.rows(experiment.scans.table)
    with tempfile.TemporaryDirectory() as where:
        champion, home = Path(where) / "champion", _only(experiment, ~of_site, Path(where))
        export.write(_release(fit, scale), champion, {})
        for name in (TEST_FILE, REFERENCE_FILE):
            (champion / name).write_bytes((loop_gate.RELEASE / name).read_bytes())
        model = read_release(champion)
        served = last_layer_of(fit).scaled(scale.slope, scale.offset)
        corrections = _corrections(experiment, learnt, _bases(served, learnt, scale))
        current = Current(model, (champion / GRAPH_FILE).read_bytes())
        card = finetune(home, corrections, lambda _, wanted: experiment.scans.only(learnt.rows[wanted]), current)
        world = _world(experiment, kept.rows, model)
        stage, reasons = loop_gate.stages(Path(where) / "release", world)
    print(f"The release that learnt from {card.metrics['learnt_from']['scans']}: {stage} {' '.join(reasons)}")
    return {"corrections_stage": stage}


def _only(experiment: Experiment, rows: np.ndarray, folder: Path) -> Experiment:
    """Return an experiment of these scans (a mask) in another folder."""
    return replace(
        experiment,
        scans=experiment.scans.only(rows),
        groups=experiment.groups[rows],
        copies=experiment.copies[rows],
        split=experiment.split[rows],
        folder=folder,
    )


def _release(fit: keras.Model, scale: Scale) -> export.Release:
    classifier, limit = ood.read_fitted()
    return export.Release(
        network=fit,
        slope=scale.slope,
        offset=scale.offset,
        threshold=scale.threshold,
        doubt=(scale.threshold, scale.threshold),
        temperature=1.0,
        ood=classifier,
        ood_limit=limit,
    )


def _corrections(experiment: Experiment, learnt: Seen, bases: np.ndarray) -> Corrections:
    """Return what readers said of scans of the site, who are right."""
    table = experiment.scans.table.iloc[learnt.rows][["scan_id", "label", "source"]].reset_index(drop=True)
    weights = pd.Series(bases).map(WEIGHTS)
    return Corrections(table.assign(object_name="", basis=bases, weight=weights, readers=1), {})


def _world(experiment: Experiment, kept: np.ndarray, model: Model) -> loop_gate.World:
    """Return the frozen test of home, and live scans of which a quarter are those rows of the site that measure."""
    rng, of_site = np.random.default_rng(1), BLOCK.rows(experiment.scans.table)
    tested = (experiment.split == "test") & ~of_site
    some = rng.permutation(kept)[: int(LIVE_SCANS * SHARE_OF_SITE)]
    others = rng.permutation(np.flatnonzero((experiment.split != "test") & ~of_site))[: LIVE_SCANS - len(some)]
    live: Scans = experiment.scans.only(rng.permutation(np.concatenate([some, others])))
    test, groups = experiment.scans.only(tested), experiment.groups[tested]
    anchor = promotion.measure(model, test, groups)
    return loop_gate.World(model, anchor, test, groups, live, rng.random(len(live)) < loop_gate.READ_SHARE)
