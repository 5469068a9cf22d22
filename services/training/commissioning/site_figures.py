"""How a release does on a site's scans: as it ships, and with the site's own calibration."""

from typing import Any

import numpy as np
import pandas as pd

from services.training.evaluation import metrics
from shared.ml.intervals import effective, wilson
from shared.ml.model import Card

Figures = dict[str, Any]


def site_figures(table: pd.DataFrame, kept: pd.DataFrame, crossed: pd.DataFrame | None, card: Card) -> Figures:
    """Return figures with 95% intervals: of the release as it ships, and cross-fitted on other persons of the site.

    `table` has all scans (label, sequence, group, released, ood_score), `kept` those that the release takes for brain
    MRI, `crossed` what `site_fit.cross_fitted` says of these.
    """
    refused = table["ood_score"].to_numpy() > card.ood_limit
    low, high = card.uncertain_from, card.uncertain_to
    shipped = kept.assign(
        probability=kept["released"],
        threshold=card.threshold,
        uncertain_from=2.0 if low is None else low,
        uncertain_to=-1.0 if high is None else high,
    )
    found: Figures = {
        "scans": len(table),
        "persons": int(table["group"].nunique()),
        "refused": int(refused.sum()),
        "release": _of(shipped),
        "by_sequence": {name: _of(rows) for name, rows in shipped.groupby("sequence") if name},
    }
    if crossed is not None:
        fitted = pd.concat([kept, crossed], axis=1)
        found["site"] = _of(fitted)
        found["site_by_sequence"] = {name: _of(rows) for name, rows in fitted.groupby("sequence") if name}
    return found


def _of(rows: pd.DataFrame) -> Figures:
    """Return counts, sensitivity, specificity, AUC, calibration error and the uncertain share of scans."""
    labels, probability = rows["label"].to_numpy(), rows["probability"].to_numpy(float)
    called = probability >= rows["threshold"].to_numpy(float)
    doubtful = (probability >= rows["uncertain_from"].to_numpy(float)) & (
        probability <= rows["uncertain_to"].to_numpy(float)
    )
    found: Figures = {"tumours": int(labels.sum()), "healthy": int(np.sum(labels == 0))}
    found |= _share("sensitivity", rows, labels == 1, called)
    found |= _share("specificity", rows, labels == 0, ~called)
    found |= _share("uncertain", rows, np.ones(len(rows), bool), doubtful)
    found |= _share("accuracy_where_sure", rows, ~doubtful, called == (labels == 1))
    if 0 < labels.sum() < len(labels):
        drawn = metrics.with_intervals(rows, 0.5, wanted=("auc_roc", "brier"))
        found |= {name: drawn[name] for name in ("auc_roc", "auc_roc_low", "auc_roc_high", "brier")}
    return found


def _share(name: str, rows: pd.DataFrame, among: np.ndarray, right: np.ndarray) -> Figures:
    """Return a share with Wilson's interval, in which persons count by Kish's effective number; nothing if of none."""
    sizes = rows.loc[among, "group"].value_counts().to_numpy(float)
    if not len(sizes):
        return {}
    share = wilson(float(np.sum(right[among])), float(np.sum(among)), effective(sizes.tolist()))
    return {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
