"""Everything the report says of a release, measured on the graph that is shipped."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from services.training import audit, evaluate, robustness, strangers
from services.training.data import Scans, inputs
from services.training.explain import drawn_lesions, lesion_hits
from services.training.split import strata
from services.training.study import Study
from shared.ml.features import pixel_statistics
from shared.ml.model import Model, Prediction

SECTIONS = ("validation", "test", "cross_validation", "leave_one_source_out")
LESIONS = 240


def answers(model: Model, images: np.ndarray) -> list[Prediction]:
    """The release's answers on prepared images, uint8 (n, 128, 128)."""
    return [model.predict(inputs(image[np.newaxis])[0]) for image in images]


def predictions(model: Model, scans: Scans, groups: np.ndarray) -> pd.DataFrame:
    """The scans' table with kind, group and the release's probability, novelty and most probable type."""
    found = answers(model, scans.images)
    return scans.table.assign(
        kind=strata(scans.table),
        group=groups,
        probability=[answer.probability for answer in found],
        novelty=[answer.ood_score for answer in found],
        guess=[max(answer.types, key=answer.types.get) for answer in found],
    )


def parts(model: Model, study: Study) -> dict[str, pd.DataFrame]:
    """Predictions on validation, test, and as many scans of training as of test."""
    rng = np.random.default_rng(0)
    rows = {part: np.flatnonzero(study.parts == part) for part in ("validation", "test", "train")}
    rows["train"] = np.sort(rng.choice(rows["train"], min(len(rows["test"]), len(rows["train"])), replace=False))
    return {part: predictions(model, study.scans.only(mine), study.groups[mine]) for part, mine in rows.items()}


def metrics(model: Model, study: Study, measured: dict[str, pd.DataFrame]) -> dict:
    """The content of reports/current/metrics.json. `measured` may hold more sections than validation and test."""
    threshold, test = model.card.threshold, measured["test"]
    rows = study.parts == "test"
    images = study.scans.images[rows]
    return {
        "model_version": model.card.version,
        "threshold": threshold,
        **{name: evaluate.with_intervals(table, threshold) for name, table in measured.items()},
        "per_source": {name: _per_source(table, threshold) for name, table in measured.items() if name != "train"},
        "per_class": {kind: _share_right(table, threshold) for kind, table in test.groupby("kind")},
        "robustness": _robustness(model, study.scans.only(rows), study.groups[rows]),
        "with_excluded_scans": {"test": _with_excluded(model, study, test)},
        "refusal": _refusal(model, images, test),
        "tumour_type": _types(test),
        "explanation": _explanation(model, images[test["label"].to_numpy() == 0]),
        "audit": audit.summary(study.scans, study.groups),
        "shortcuts": audit.shortcut_accuracy(study.scans, study.parts),
    }


def curves(table: pd.DataFrame, bins: int = 10) -> dict:
    """ROC points and the calibration curve of some predictions."""
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


def reference(study: Study, test: pd.DataFrame) -> dict:
    """What drift is measured against: pixel statistics of scans trained on, and the test's probabilities in tenths."""
    images = study.scans.images[study.parts == "train"]
    chosen = images[np.random.default_rng(0).choice(len(images), min(500, len(images)), replace=False)]
    statistics = pd.DataFrame([pixel_statistics(inputs(image[np.newaxis])[0]) for image in chosen])
    known = {
        name: {"mean": float(column.mean()), "std": float(column.std())}
        for name, column in statistics.select_dtypes(float).items()
    }
    tenths = np.histogram(test["probability"], bins=10, range=(0, 1))[0]
    return known | {"probability": (tenths / tenths.sum()).tolist()}


def _share_right(table: pd.DataFrame, threshold: float) -> evaluate.Figures:
    return _some(evaluate.with_intervals(table, threshold), "accuracy") | {"scans": len(table)}


def _some(figures: evaluate.Figures, *names: str) -> evaluate.Figures:
    """These figures alone, with their intervals."""
    return {f"{name}{end}": figures[f"{name}{end}"] for name in names for end in ("", "_low", "_high")}


def _per_source(table: pd.DataFrame, threshold: float) -> dict[str, evaluate.Figures]:
    """Of each source's tumours beside all scans without one: a source of tumours only has no specificity of its own."""
    wanted = ("recall", "auc_roc", "sensitivity_at_95_specificity", "sensitivity_at_97_specificity")
    found = {}
    for source, tumours in table[table["label"] == 1].groupby("source"):
        figures = evaluate.with_intervals(pd.concat([tumours, table[table["label"] == 0]]), threshold)
        found[source] = _some(figures, *wanted) | {"tumours": len(tumours), "groups": tumours["group"].nunique()}
    return found


def _robustness(model: Model, test: Scans, groups: np.ndarray) -> dict[str, evaluate.Figures]:
    wanted = ("accuracy", "recall", "specificity", "auc_roc")
    found = {}
    for name, change in robustness.CHANGES.items():
        table = predictions(model, Scans(test.table, robustness.changed(test.images, change)), groups)
        figures = evaluate.with_intervals(table, model.card.threshold)
        refused = float(np.mean(table["novelty"] > model.card.ood_limit))
        found[name] = _some(figures, *wanted) | {"refused": refused}
    return found


def _with_excluded(model: Model, study: Study, test: pd.DataFrame) -> evaluate.Figures:
    """Test with the excluded scans that its groups would have brought counted under their published label."""
    excluded = predictions(model, study.excluded, -1 - np.arange(len(study.excluded)))
    return evaluate.with_intervals(pd.concat([test, excluded]), model.card.threshold)


def _refusal(model: Model, heads: np.ndarray, test: pd.DataFrame) -> dict[str, evaluate.Figures]:
    limit, real = model.card.ood_limit, test["novelty"].to_numpy()
    found = {"real test scans": {"refused": float(np.mean(real > limit)), "scans": len(real)}}
    every = []
    for kind, images in strangers.to_test(heads, 100, np.random.default_rng(7)).items():
        scores = np.array([answer.ood_score for answer in answers(model, images)])
        every.append(scores)
        found[kind] = _told_apart(real, scores, limit)
    return found | {"all strangers": _told_apart(real, np.concatenate(every), limit)}


def _told_apart(real: np.ndarray, strange: np.ndarray, limit: float) -> evaluate.Figures:
    labels = np.repeat([0, 1], [len(real), len(strange)])
    auroc = float(roc_auc_score(labels, np.concatenate([real, strange])))
    return {"auroc": auroc, "refused": float(np.mean(strange > limit)), "scans": len(strange)}


def _types(test: pd.DataFrame) -> evaluate.Figures:
    known = test[test["type"] != ""]
    return {"accuracy": float(np.mean(known["type"] == known["guess"])), "scans": len(known)}


def _explanation(model: Model, healthy: np.ndarray) -> evaluate.Figures:
    images, masks = drawn_lesions(healthy, LESIONS)
    found = answers(model, images)
    hit = lesion_hits(np.stack([answer.heat_map for answer in found]), masks)
    called = np.array([answer.probability >= model.card.threshold for answer in found])
    area = np.array([mask.sum() for mask in masks])
    large = area >= np.median(area)
    return {
        "drawn_lesions": LESIONS,
        "hit_rate": float(hit.mean()),
        "hit_rate_large": float(hit[large].mean()),
        "hit_rate_small": float(hit[~large].mean()),
        "hit_rate_where_called_cancer": float(hit[called].mean()),
        "called_cancer": float(called.mean()),
        "share_of_the_head_a_hit_by_chance": float(np.mean([mask.mean() for mask in masks])),
    }
