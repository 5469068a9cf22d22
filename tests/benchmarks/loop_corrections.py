"""A new site, learnt from its readers: corrections out of the review queue against as many at random.

The site is the block of sources that the fit under `--folder` (`make crossvalidate`) never saw. Half of its groups send
scans that readers may look at, the other half measures. The fine-tune is of the last layer alone, a few hundred steps
of L-BFGS from the weights in service, on scans of home and the corrections, so that every number of corrections can be
tried; the one with 100 from the queue then goes through the offline criteria, shadow and canary.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from scipy.optimize import minimize

from services.training import experiment as experiments
from services.training.data.corrections import WEIGHTS
from services.training.data.scans import Scans
from services.training.evaluation import metrics
from services.training.evaluation.blocks import BLOCKS
from services.training.experiment import Experiment
from services.training.modelling import calibration, export, ood
from services.training.modelling.network import network
from services.training.release import promotion
from shared.ml.model import read_release
from shared.ml.release_files import REFERENCE_FILE, TEST_FILE
from tests.benchmarks import loop_gate
from tests.benchmarks.loop_graphs import Graph
from tests.benchmarks.loop_sabotages import Candidate, candidate_folder, with_graph

BLOCK = BLOCKS[0]
COUNTS = (10, 25, 50, 100, 200)
REPORTED = 100
HOME_SCANS = 2000
STRENGTH = 5.0
"""Of a corrected scan beside one of home, times its weight in `services.training.data.corrections`."""
RIDGE = 20.0
"""Holds the weights near those in service."""
SHARE_OF_SITE, LIVE_SCANS = 0.25, 400


@dataclass(frozen=True)
class Seen:
    """Scans as the fit that is in service sees them."""

    embeddings: np.ndarray
    """float (n, 160)."""
    labels: np.ndarray
    groups: np.ndarray

    def only(self, rows: np.ndarray) -> "Seen":
        """Return some rows."""
        return Seen(self.embeddings[rows], self.labels[rows], self.groups[rows])


@dataclass(frozen=True)
class Layer:
    """The last layer."""

    weights: np.ndarray
    bias: float

    def logits(self, seen: Seen) -> np.ndarray:
        """Return the logit of each scan."""
        return seen.embeddings @ self.weights + self.bias


def measured(data: Path, folder: Path) -> dict[str, object]:
    """Try every number of corrections; print the table, and return the figures."""
    experiment = experiments.read_experiment(str(data.resolve()), folder)
    fit = _left_out_fit(folder)
    of_site = BLOCK.rows(experiment.scans.table)
    home = (experiment.split != "test") & ~of_site
    rng = np.random.default_rng(0)
    learnt = rng.permutation(np.flatnonzero(home))[:HOME_SCANS]
    site, known = _seen(fit, experiment, np.flatnonzero(of_site)), _seen(fit, experiment, learnt)
    tested = _seen(fit, experiment, np.flatnonzero((experiment.split == "test") & ~of_site))
    before = _layer_of(fit)
    arrived, kept = _halves(site, rng)
    scale = _scale(experiment, fit, folder)
    rows: dict[tuple[str, int], Layer] = {}
    for count in COUNTS:
        for name, order in (
            ("queue", _queue(before, scale, arrived)),
            ("random", rng.permutation(len(arrived.labels))),
        ):
            rows[name, count] = _finetuned(before, known, arrived.only(order[:count]), scale)
    figures = _figures(before, rows, kept, tested, scale)
    figures |= _through_the_gate(experiment, fit, scale, rows["queue", REPORTED], folder)
    return figures


def _left_out_fit(folder: Path) -> keras.Model:
    runs = sorted((folder / "runs").glob(f"block-{BLOCK.name}-*/last.weights.h5"))
    if not runs:
        raise SystemExit(f"There is no fit without block {BLOCK.name} under {folder}: run `make crossvalidate` first.")
    fit = network()
    fit.load_weights(runs[-1])
    export.round_to_shipped(fit)
    return fit


def _seen(fit: keras.Model, experiment: Experiment, rows: np.ndarray) -> Seen:
    scans = experiment.scans.only(rows)
    outputs = export.mirrored_outputs(fit).predict(scans.inputs(), batch_size=64, verbose=0)
    return Seen(outputs["embedding"].astype(float), scans.table["label"].to_numpy(), experiment.groups[rows])


def _layer_of(fit: keras.Model) -> Layer:
    kernel, bias = fit.get_layer("logit").get_weights()
    return Layer(np.ravel(kernel).astype(float), float(np.ravel(bias)[0]))


def _halves(site: Seen, rng: np.random.Generator) -> tuple[Seen, Seen]:
    """Return the scans that arrive and those that measure, whole groups on one side."""
    chosen = rng.permutation(np.unique(site.groups))
    arrives = np.isin(site.groups, chosen[: len(chosen) // 2])
    return site.only(arrives), site.only(~arrives)


@dataclass(frozen=True)
class Scale:
    """Calibration and operating point of the release in service."""

    slope: float
    offset: float
    threshold: float


def _scale(experiment: Experiment, fit: keras.Model, folder: Path) -> Scale:
    """Return calibration and threshold as a release of this fit would have them, on home's validation."""
    rows = np.flatnonzero(experiment.split == "validation")
    seen = _seen(fit, experiment, rows)
    sources = experiment.scans.table["source"].to_numpy(str)[rows]
    logits = _layer_of(fit).logits(seen)
    weights = calibration.balancing_weights(seen.labels, sources)
    slope, offset = calibration.platt(logits, seen.labels, weights)
    probabilities = calibration.calibrated(logits, slope, offset)
    healthy = seen.labels == 0
    return Scale(slope, offset, calibration.operating_threshold(probabilities[healthy], sources[healthy]))


def _queue(layer: Layer, scale: Scale, arrived: Seen) -> np.ndarray:
    """Return the order in which the review queue shows scans: the nearest to the threshold first."""
    probabilities = calibration.calibrated(layer.logits(arrived), scale.slope, scale.offset)
    return np.argsort(np.abs(probabilities - scale.threshold), kind="stable")


def _finetuned(start: Layer, home: Seen, corrected: Seen, scale: Scale) -> Layer:
    """Return the last layer after a short fit on home and the corrections."""
    called = calibration.calibrated(start.logits(corrected), scale.slope, scale.offset) >= scale.threshold
    wrong = called != (corrected.labels == 1)
    weight = STRENGTH * np.where(wrong, WEIGHTS["corrected"], WEIGHTS["confirmed"])
    embeddings = np.concatenate([home.embeddings, corrected.embeddings])
    signs = 2.0 * np.concatenate([home.labels, corrected.labels]) - 1
    weights = np.concatenate([np.ones(len(home.labels)), weight])
    first = np.append(start.weights, start.bias)

    def loss(now: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (embeddings @ now[:-1] + now[-1])
        slopes = -weights * signs / (1 + np.exp(np.clip(margins, -60, 60)))
        moved = now - first
        value = weights @ np.logaddexp(0, -margins) + RIDGE / 2 * moved @ moved
        return float(value), np.append(slopes @ embeddings, slopes.sum()) + RIDGE * moved

    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return Layer(found[:-1], float(found[-1]))


def _figures(
    before: Layer, rows: dict[tuple[str, int], Layer], kept: Seen, tested: Seen, scale: Scale
) -> dict[str, object]:
    at_site = {
        key: metrics.sensitivity_at(kept.labels, layer.logits(kept), 0.95)
        for key, layer in {("none", 0): before, **rows}.items()
    }
    change = {key: _change(before, layer, tested, scale) for key, layer in rows.items()}
    print(f"{'corrections':16} {'sensitivity':>12} {'home accuracy':>22}")
    for (name, count), found in at_site.items():
        moved = change.get((name, count))
        print(
            f"{name:8} {count:6}  {found:12.3f} "
            + (f"{moved[0]:+.4f} ({moved[1]:+.4f} to {moved[2]:+.4f})" if moved else "")
        )
    queue, random = ("queue", REPORTED), ("random", REPORTED)
    return {
        "corrections": REPORTED,
        "sensitivity_before": at_site["none", 0],
        "sensitivity_after": at_site[queue],
        "sensitivity_after_at_random": at_site[random],
        "home_accuracy_change": change[queue][0],
        "home_accuracy_change_low": change[queue][1],
        "home_accuracy_change_high": change[queue][2],
        **{f"sensitivity, {count} by {name}": value for (name, count), value in at_site.items()},
    }


def _change(before: Layer, after: Layer, tested: Seen, scale: Scale) -> tuple[float, float, float]:
    """Return by how much accuracy at home changes, with the 95% interval of groups drawn again."""
    gained = _right(after, tested, scale).astype(float) - _right(before, tested, scale)
    rng, groups = np.random.default_rng(0), np.unique(tested.groups)
    of_group = [np.flatnonzero(tested.groups == group) for group in groups]
    drawn = [
        gained[np.concatenate([of_group[i] for i in rng.integers(len(groups), size=len(groups))])].mean()
        for _ in range(400)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gained.mean()), float(low), float(high)


def _right(layer: Layer, seen: Seen, scale: Scale) -> np.ndarray:
    called = calibration.calibrated(layer.logits(seen), scale.slope, scale.offset) >= scale.threshold
    return np.asarray(called == (seen.labels == 1))


def _through_the_gate(
    experiment: Experiment, fit: keras.Model, scale: Scale, layer: Layer, folder: Path
) -> dict[str, object]:
    """Export the fit as the release in service, put the new last layer into its graph, and try to promote that."""
    of_site = BLOCK.rows(experiment.scans.table)
    rng = np.random.default_rng(1)
    classifier, limit = ood.read_fitted()
    release = export.Release(
        network=fit,
        slope=scale.slope,
        offset=scale.offset,
        threshold=scale.threshold,
        doubt=(scale.threshold, scale.threshold),
        temperature=1.0,
        ood=classifier,
        ood_limit=limit,
    )
    with tempfile.TemporaryDirectory() as where:
        champion = Path(where) / "champion"
        export.write(release, champion, {})
        for name in (TEST_FILE, REFERENCE_FILE):
            (champion / name).write_bytes((loop_gate.RELEASE / name).read_bytes())
        tested = (experiment.split == "test") & ~of_site
        some = rng.permutation(np.flatnonzero(of_site))[: int(LIVE_SCANS * SHARE_OF_SITE)]
        others = rng.permutation(np.flatnonzero((experiment.split != "test") & ~of_site))[: LIVE_SCANS - len(some)]
        live: Scans = experiment.scans.only(rng.permutation(np.concatenate([some, others])))
        model, test, groups = read_release(champion), experiment.scans.only(tested), experiment.groups[tested]
        world = loop_gate.World(
            model,
            promotion.measure(model, test, groups),
            test,
            groups,
            live,
            rng.random(len(live)) < loop_gate.READ_SHARE,
        )
        change = Candidate("100 corrections", lambda path: with_graph(path, lambda graph: _put(graph, layer)))
        stage, reasons = loop_gate.stages(candidate_folder(change, champion, Path(where) / "candidate"), world)
    print(f"The release with {REPORTED} corrections: {stage} {' '.join(reasons)}")
    return {"corrections_stage": stage}


def _put(graph: Graph, layer: Layer) -> None:
    weights, bias = graph.last_layer()
    graph.write(weights, layer.weights)
    graph.write(bias, layer.bias)
