"""The offline criteria: both graphs are run again on the frozen test, and what is measured decides, not the cards."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from services.training.data import ood_images
from services.training.data.scans import Scans
from services.training.evaluation import measurements, metrics
from services.training.evaluation.metrics import Figures
from services.training.experiment import excluded_reasons
from shared.gcp.registry import RELEASES, Pointer, add_version, read_file, read_pointer
from shared.gcp.storage import MissingObject
from shared.ml.model import FAILURES, Card, Model, ModelMismatch, read_release
from shared.ml.release_files import CARD_FILE, GRAPH_FILE, LEARNT_FILE, RELEASE_FILES, TEST_FILE

DECISION_FILE = "decision.json"

MARGINS = {
    "sensitivity": 0.02,
    "specificity": 0.03,
    "brain_mri_accepted": 0.01,
    "auc_roc": 0.01,
    "log_likelihood": 0.03,
    "type_accuracy": 0.05,
}
"""By how much a figure may be worse than the anchor's and still count as no worse. More is better of all of them."""

FLOORS = {"sensitivity": 0.8, "specificity": 0.8, "brain_mri_accepted": 0.95, "auc_roc": 0.9, "ood_refused": 0.7}
"""What every release must reach, whatever it is compared with."""

LEVEL = 0.05
REPETITIONS = 400


class Refused(Exception):
    """The criteria keep the current version, or there is none to go back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one graph says of the frozen test and of images that are no brain MRI."""

    version: str
    predictions: pd.DataFrame
    """label, type, group, probability, called (as shipped: Cancer, Non-Cancer, Not a brain MRI), guess."""
    ood_refused: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the criteria found, kept beside the version."""

    promoted: bool
    reasons: list[str]
    candidate: str
    anchor: str | None
    """The best release so far, with which the candidate was compared; None if it was not compared."""
    figures: Figures
    anchor_figures: Figures | None
    next_anchor: str
    """With which the next candidate will be compared."""


def measure(model: Model, scans: Scans, groups: np.ndarray) -> Measured:
    """Run a graph on the frozen test's scans and on OOD images."""
    found = measurements.predictions(model, scans, groups)
    refused = found["ood_score"].to_numpy() > model.card.ood_limit
    cancer = found["probability"].to_numpy() >= model.card.threshold
    called = np.where(refused, "Not a brain MRI", np.where(cancer, "Cancer", "Non-Cancer"))
    kinds = ood_images.to_test(scans.images, 20, np.random.default_rng(7))
    scores = np.array([p.ood_score for p in measurements.predict(model, np.concatenate(list(kinds.values())))])
    return Measured(
        version=model.card.version,
        predictions=found.assign(called=called),
        ood_refused=float(np.mean(scores > model.card.ood_limit)),
    )


def figures(predictions: pd.DataFrame) -> Figures:
    """Return the figures of `MARGINS`: at the shipped threshold, a refusal counting as an error."""
    label, called = predictions["label"].to_numpy(), predictions["called"].to_numpy(str)
    probability = np.clip(predictions["probability"].to_numpy(float), 1e-4, 1 - 1e-4)
    tumour, known = label == 1, (predictions["type"] != "").to_numpy()
    likelihood = np.log(np.where(tumour, probability, 1 - probability))
    right = (predictions["type"] == predictions["guess"]).to_numpy(float)
    both = tumour.any() and not tumour.all() and bool(np.isfinite(probability).all())
    return {
        "sensitivity": float(np.mean(called[tumour] == "Cancer")),
        "specificity": float(np.mean(called[~tumour] == "Non-Cancer")),
        "brain_mri_accepted": float(np.mean(called != "Not a brain MRI")),
        "auc_roc": float(roc_auc_score(label, probability)) if both else float("nan"),
        # Both classes alike: as many of each would be measured on another day.
        "log_likelihood": float((likelihood[tumour].mean() + likelihood[~tumour].mean()) / 2),
        "type_accuracy": float(right[known].mean()) if known.any() else 1.0,
    }


def decide(candidate: Measured, anchor: Measured | None) -> Decision:
    """Return whether a candidate reaches the floors and is no worse than the anchor in any figure, by its margin.

    A figure counts as no worse if at most 5% of paired bootstrap draws of groups have the candidate below the anchor by
    more than the margin. All must pass, so no correction for their number is due (intersection-union test). A figure
    that is not a number fails.
    """
    mine = figures(candidate.predictions) | {"ood_refused": candidate.ood_refused}
    reasons = [
        f"{name} is {mine[name]:.3f}, under the floor of {floor:g}."
        for name, floor in FLOORS.items()
        if not mine[name] >= floor
    ]
    reasons += [f"{name} is not a number." for name, value in mine.items() if not np.isfinite(value)]
    theirs = None
    if anchor is not None:
        theirs = figures(anchor.predictions) | {"ood_refused": anchor.ood_refused}
        reasons += _worse(candidate.predictions, anchor.predictions, mine, theirs)
        if candidate.ood_refused < anchor.ood_refused - 0.05:
            reasons.append(f"ood_refused is {candidate.ood_refused:.3f}, the anchor's {anchor.ood_refused:.3f}.")
    better = theirs is None or mine["log_likelihood"] >= theirs["log_likelihood"]
    return Decision(
        promoted=not reasons,
        reasons=reasons,
        candidate=candidate.version,
        anchor=None if anchor is None else anchor.version,
        figures=mine,
        anchor_figures=theirs,
        next_anchor=candidate.version if anchor is None or (better and not reasons) else anchor.version,
    )


def _worse(candidate: pd.DataFrame, anchor: pd.DataFrame, mine: Figures, theirs: Figures) -> list[str]:
    """A reason for each figure that cannot be called no worse."""
    rows = metrics.resampled(candidate, seed=0, repetitions=REPETITIONS)
    drawn = pd.DataFrame([figures(candidate.iloc[r]) for r in rows]) - pd.DataFrame(
        [figures(anchor.iloc[r]) for r in rows]
    )
    found = []
    for name, margin in MARGINS.items():
        below = float(np.mean(~(drawn[name].to_numpy(float) >= -margin)))
        if below > LEVEL:
            found.append(
                f"{name} is {mine[name]:.3f}, the anchor's {theirs[name]:.3f}: worse by more than {margin:g} in "
                f"{below:.0%} of the draws."
            )
    return found


def judged(folder: Path, scans: Scans, groups: np.ndarray) -> Decision:
    """Store a release in the models bucket and return what the criteria say of it; the pointer is left as it is.

    `scans` are the frozen test's. The decision is kept beside the release. Raises Refused if it was tested on other
    scans than the current release, or does not run.
    """
    pointer = read_pointer(RELEASES)
    if pointer.version:
        _same_test(folder, pointer.version)
    try:
        model = read_release(folder)
        candidate = measure(model, scans, groups)
    except (ModelMismatch, *FAILURES) as error:
        raise Refused(f"The release does not run: {error}") from error
    version, anchor = model.card.version, _anchor(pointer)
    decision = decide(candidate, measure(anchor, scans, groups) if anchor else None)
    report = {f"report/{path.name}": path.read_bytes() for path in _report_of(version)}
    named = [*RELEASE_FILES, *([LEARNT_FILE] if (folder / LEARNT_FILE).exists() else [])]
    files = {name: (folder / name).read_bytes() for name in named}
    add_version(RELEASES, version, files | report | {DECISION_FILE: json.dumps(asdict(decision)).encode()})
    return decision


def frozen_test() -> frozenset[str]:
    """Return the scan ids that the current version was tested on, for the next one; none before the first."""
    pointer = read_pointer(RELEASES)
    if pointer.version is None:
        return frozenset()
    return frozenset(read_file(RELEASES, pointer.version, TEST_FILE).decode().split())


def _same_test(folder: Path, current: str) -> None:
    """Raise Refused if two releases were tested on different scans, those apart that were excluded in between."""
    mine = set((folder / TEST_FILE).read_text().split())
    theirs = set(read_file(RELEASES, current, TEST_FILE).decode().split())
    if (mine ^ theirs) - excluded_reasons().keys():
        raise Refused("It was tested on other scans than the current version: run `make train` with --frozen.")


def _anchor(pointer: Pointer) -> Model | None:
    """The best release so far; None before the first, and if this code cannot run it."""
    if pointer.version is None:
        return None
    try:
        version = json.loads(read_file(RELEASES, pointer.version, DECISION_FILE)).get("next_anchor", pointer.version)
    except MissingObject:
        version = pointer.version
    try:
        card = Card.from_json(read_file(RELEASES, version, CARD_FILE))
        return Model(card, read_file(RELEASES, version, GRAPH_FILE))
    except ModelMismatch:
        return None


def _report_of(version: str) -> list[Path]:
    """The files of reports/current, if they are this version's."""
    reports = Path("reports/current")
    written = reports / "metrics.json"
    if not written.exists() or json.loads(written.read_text())["model_version"] != version:
        return []
    return sorted(path for path in reports.iterdir() if path.is_file())
