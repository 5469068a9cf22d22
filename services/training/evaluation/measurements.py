"""Everything the report says of a release, measured on the graph that is shipped."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from services.training.data import ood_images, quality
from services.training.data.scans import Scans, inputs
from services.training.data.split import strata
from services.training.evaluation import left_out_figures, robustness
from services.training.evaluation import metrics as figures
from services.training.evaluation.explanation import chance_hits, drawn_lesions, lesion_hits
from services.training.evaluation.metrics import Figures
from services.training.experiment import Experiment
from services.training.modelling import calibration
from shared.ml.features import pixel_statistics
from shared.ml.model import Model, Prediction

LESIONS = 200
LEFT_OUT = "leave_one_source_out"
"""The section with the predictions on sources that no fit saw."""
_ROBUSTNESS_SCANS = 150


def predict(model: Model, images: np.ndarray) -> list[Prediction]:
    """Return the release's predictions on prepared images, uint8 (n, 128, 128)."""
    return [model.predict(inputs(image[np.newaxis])[0]) for image in images]


def predictions(model: Model, scans: Scans, groups: np.ndarray) -> pd.DataFrame:
    """Return the scans' table with kind, group and the release's probability, OOD score and most probable type."""
    found = predict(model, scans.images)
    return scans.table.assign(
        kind=strata(scans.table),
        group=groups,
        probability=[one.probability for one in found],
        ood_score=[one.ood_score for one in found],
        guess=[max(one.types, key=lambda kind: one.types[kind]) for one in found],
        sureness=[max(one.types.values()) for one in found],
    )


def of_splits(model: Model, experiment: Experiment) -> dict[str, pd.DataFrame]:
    """Return predictions on the test, and on as many scans of training."""
    rng = np.random.default_rng(0)
    test, seen = (np.flatnonzero(rows) for rows in (experiment.split == "test", experiment.split != "test"))
    seen = np.sort(rng.choice(seen, min(len(test), len(seen)), replace=False))
    return {
        name: predictions(model, experiment.scans.only(rows), experiment.groups[rows])
        for name, rows in (("test", test), ("train", seen))
    }


def metrics(model: Model, experiment: Experiment, measured: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the content of reports/current/metrics.json. `measured` holds test and train, and perhaps `LEFT_OUT`."""
    threshold, test = model.card.threshold, measured["test"]
    rows = experiment.split == "test"
    images = experiment.scans.images[rows]
    found = {
        "model_version": model.card.version,
        "from_release": model.card.metrics.get("learnt_from", {}).get("from_release"),
        "threshold": threshold,
        **{name: figures.with_intervals(table, threshold) for name, table in measured.items()},
        "sample_sizes": {name: figures.sample_sizes(table) for name, table in measured.items()},
        "per_source": {name: _per_source(table, threshold) for name, table in measured.items() if name != "train"},
        "per_class": {kind: _share_right(table, threshold) for kind, table in test.groupby("kind")},
        "calibration": {name: _calibration(table) for name, table in measured.items() if name != "train"},
        "robustness": _robustness(model, experiment.scans.only(rows), experiment.groups[rows]),
        "with_excluded_scans": {"test": _with_excluded(model, experiment, test)},
        "refusal": _refusal(model, images, test),
        "tumour_type": figures.type_accuracy(test),
        "explanation": _explanation(model, images[test["label"].to_numpy() == 0]),
        "audit": quality.summary(experiment.scans, experiment.groups, experiment.copies),
        "shortcuts": quality.shortcut_accuracy(experiment.scans, experiment.split),
    }
    if LEFT_OUT in measured:
        found |= left_out_figures.of_blocks(measured[LEFT_OUT])
    return found


def _calibration(table: pd.DataFrame) -> Figures:
    """Calibration beside what a perfectly calibrated model with these probabilities would score."""
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy(float)
    logits = np.log(np.clip(probabilities, 1e-6, 1 - 1e-6) / np.clip(1 - probabilities, 1e-6, 1 - 1e-6))
    slope, offset = calibration.platt(logits, labels, np.full(len(labels), 1 / len(labels)))
    return {
        "ece": figures.expected_calibration_error(probabilities, labels),
        "ece of a perfectly calibrated model": figures.expected_if_perfect(probabilities),
        "debiased": calibration.calibration_error(probabilities, labels),
        "slope": slope,
        "intercept": offset,
    }


def curves(table: pd.DataFrame, bins: int = 10) -> dict[str, list[dict[str, float]]]:
    """Return ROC points and the calibration curve of some predictions."""
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    false, sensitivity, thresholds = roc_curve(labels, probabilities)
    order = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return {
        "roc": [
            {"threshold": min(float(t), 1.0), "sensitivity": float(s), "specificity": float(1 - f)}
            for f, s, t in zip(false, sensitivity, thresholds, strict=True)
        ],
        "calibration": [
            {"predicted": float(probabilities[b].mean()), "observed": float(labels[b].mean()), "count": len(b)}
            for b in order
        ],
    }


def reference(experiment: Experiment, test: pd.DataFrame) -> dict[str, Any]:
    """Return what drift is measured against: pixel statistics of training, and the test's probabilities in tenths."""
    images = experiment.scans.images[experiment.split != "test"]
    chosen = images[np.random.default_rng(0).choice(len(images), min(500, len(images)), replace=False)]
    statistics = pd.DataFrame([pixel_statistics(inputs(image[np.newaxis])[0]) for image in chosen])
    known = {
        name: {"mean": float(column.mean()), "std": float(column.std())}
        for name, column in statistics.select_dtypes(float).items()
    }
    tenths = np.histogram(test["probability"], bins=10, range=(0, 1))[0]
    return known | {"probability": (tenths / tenths.sum()).tolist()}


def _share_right(table: pd.DataFrame, threshold: float) -> Figures:
    return _some(table, threshold, "accuracy") | {"scans": len(table)}


def _some(table: pd.DataFrame, threshold: float, *names: str) -> Figures:
    """These figures alone, each with its interval."""
    found = figures.with_intervals(table, threshold, wanted=names)
    return {f"{name}{end}": found[f"{name}{end}"] for name in names for end in ("", "_low", "_high")}


def _per_source(table: pd.DataFrame, threshold: float) -> dict[str, Figures]:
    """Of each source's tumours beside all scans without one: a source of tumours only has no specificity of its own."""
    wanted = ("recall", "auc_roc", "sensitivity_at_95_specificity", "sensitivity_at_97_specificity")
    found: dict[str, Figures] = {}
    for source, tumours in table[table["label"] == 1].groupby("source"):
        beside = pd.concat([tumours, table[table["label"] == 0]])
        counts = {"tumours": len(tumours), "groups": tumours["group"].nunique()}
        found[str(source)] = _some(beside, threshold, *wanted) | counts
    return found


def _robustness(model: Model, test: Scans, groups: np.ndarray) -> dict[str, Figures]:
    wanted = ("accuracy", "recall", "specificity", "auc_roc")
    rows = np.sort(np.random.default_rng(2).permutation(len(test))[:_ROBUSTNESS_SCANS])
    test, groups, found = test.only(rows), groups[rows], {}
    for name, change in robustness.CHANGES.items():
        table = predictions(model, Scans(test.table, robustness.changed(test.images, change)), groups)
        refused = float(np.mean(table["ood_score"] > model.card.ood_limit))
        found[name] = _some(table, model.card.threshold, *wanted) | {"refused": refused}
    return found


def _with_excluded(model: Model, experiment: Experiment, test: pd.DataFrame) -> Figures:
    """Test with the excluded scans that were dealt to it counted under their published label."""
    rows = experiment.excluded_split == "test"
    if not rows.any():
        return figures.with_intervals(test, model.card.threshold)
    excluded = predictions(model, experiment.excluded.only(rows), -1 - np.arange(rows.sum()))
    return figures.with_intervals(pd.concat([test, excluded]), model.card.threshold)


def _refusal(model: Model, heads: np.ndarray, test: pd.DataFrame) -> dict[str, Figures]:
    limit, real = model.card.ood_limit, test["ood_score"].to_numpy()
    found = {"real test scans": {"refused": float(np.mean(real > limit)), "scans": len(real)}}
    every = []
    for kind, images in ood_images.to_test(heads, 25, np.random.default_rng(7)).items():
        scores = np.array([one.ood_score for one in predict(model, images)])
        every.append(scores)
        found[kind] = _told_apart(real, scores, limit)
    return found | {"all OOD images": _told_apart(real, np.concatenate(every), limit)}


def _told_apart(real: np.ndarray, strange: np.ndarray, limit: float) -> Figures:
    labels = np.repeat([0, 1], [len(real), len(strange)])
    auroc = float(roc_auc_score(labels, np.concatenate([real, strange])))
    return {"auroc": auroc, "refused": float(np.mean(strange > limit)), "scans": len(strange)}


def _explanation(model: Model, healthy: np.ndarray) -> Figures:
    images, masks = drawn_lesions(healthy, LESIONS)
    found = predict(model, images)
    hit = lesion_hits(np.stack([one.heat_map for one in found]), masks)
    called = np.array([one.probability >= model.card.threshold for one in found])
    area = np.array([mask.sum() for mask in masks])
    large = area >= np.median(area)
    return {
        "drawn_lesions": LESIONS,
        "hit_rate": float(hit.mean()),
        "hit_rate_large": float(hit[large].mean()),
        "hit_rate_small": float(hit[~large].mean()),
        "hit_rate_where_called_cancer": float(hit[called].mean()) if called.any() else float("nan"),
        "called_cancer": float(called.mean()),
        "hit_by_chance_inside_the_head": float(chance_hits(images, masks).mean()),
    }
