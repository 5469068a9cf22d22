"""Figures of the predictions on sources that no fit saw."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from services.training.data.scans import TYPES
from services.training.evaluation import metrics as figures
from services.training.evaluation.blocks import OTHER_LESIONS
from services.training.evaluation.left_out import IN_SKULL, TYPE_LOGITS
from services.training.evaluation.metrics import Figures
from services.training.modelling import calibration
from services.training.modelling.calibration import Scale


def calibrated_across(left_out: pd.DataFrame) -> pd.DataFrame:
    """Return left-out predictions with probability, threshold and band of doubt, each from the other blocks alone.

    With one block only there is no other: its own scans then have to do, which flatters it.
    """
    found = []
    for block in left_out["block"].unique():
        mine = left_out["block"] == block
        others = left_out[~mine] if (~mine).any() else left_out
        scale = scale_of(others)
        found.append(
            left_out[mine].assign(
                probability=calibration.calibrated(left_out["logit"][mine].to_numpy(), scale.slope, scale.offset),
                threshold=scale.threshold,
                uncertain_from=scale.doubt[0],
                uncertain_to=scale.doubt[1],
                guess=_guesses(left_out.loc[mine, TYPE_LOGITS].to_numpy(float)),
            )
        )
    return pd.concat(found, ignore_index=True)


def scale_of(unseen: pd.DataFrame) -> Scale:
    """Return the scale that predictions on scans give which their fit never saw."""
    columns = unseen["logit"], unseen["label"], unseen["source"].astype(str), unseen["skull"] == "stripped"
    return calibration.scale(*(column.to_numpy() for column in columns))


def _guesses(logits: np.ndarray) -> np.ndarray:
    """The most probable types; empty where the fit could not learn all of them."""
    return np.where(np.isnan(logits).any(axis=1), "", np.array(TYPES)[logits.argmax(axis=1)])


def of_blocks(table: pd.DataFrame) -> dict[str, Any]:
    """Return the primary figure, each block's and each healthy source's figures, doubt and tumour types."""
    blocks = dict(list(table.groupby("block")))
    return {
        "primary": primary(table),
        "blocks": {name: figures.with_intervals(part, 0.5) for name, part in blocks.items()},
        "healthy_sources": {
            source: {"specificity": float(np.mean(part["probability"] < part["threshold"])), "scans": len(part)}
            for source, part in table[table["label"] == 0].groupby("source")
        },
        "other_lesions": {
            lesion: {"called Cancer": float(np.mean(part["probability"] >= part["threshold"])), "scans": len(part)}
            for lesion, part in table.groupby(table["source"].map(OTHER_LESIONS))
        },
        "tumour_sequences": {
            f"{source} {sequence or 'of unknown sequence'}": {
                "recall": float(np.mean(part["probability"] >= part["threshold"])),
                "scans": len(part),
            }
            for (source, sequence), part in table[table["label"] == 1].groupby(["source", "sequence"])
        },
        "within_skulls": within_skulls(table),
        "risk_coverage": risk_coverage(table),
        "tumour_type_left_out": figures.type_accuracy(table),
    }


def primary(table: pd.DataFrame) -> Figures:
    """Return the primary figure: the blocks' mean sensitivity at a threshold that each healthy source of them passes.

    The threshold is, within a block, the largest that any of its healthy sources needs for a specificity of 95%.
    """
    found = {}
    for name, part in table.groupby("block"):
        found[f"block {name}"] = float(sensitivities(part).min())
    return {"mean sensitivity at 95% specificity per healthy source": float(np.mean(list(found.values()))), **found}


def within_skulls(table: pd.DataFrame) -> dict[str, Figures]:
    """Return AUC and shares found of stripped tumours against stripped heads, as they are and within others' skulls.

    Found is what lies above 95% of the healthy scans of every source. Blocks without stripped tumours are left out.
    """
    worn = table[table[IN_SKULL].notna()]
    found: dict[str, Figures] = {}
    for name, block in worn.groupby("block"):
        if block["label"].nunique() < 2:
            continue
        for how, column in (("as they are", "logit"), ("within a skull", IN_SKULL)):
            seen = block.assign(logit=block[column])
            hit = seen["logit"] > _needed(seen).max()
            tumours = seen["label"] == 1
            found[f"block {name}, {how}"] = {
                "AUC": float(roc_auc_score(seen["label"], seen["logit"])),
                "all": float(hit[tumours].mean()),
                **{str(key): float(part.mean()) for key, part in hit[tumours].groupby(seen["sequence"])},
            }
    return found


def sensitivities(block: pd.DataFrame) -> pd.Series:
    """Return the share of a block's tumours above the logit that 5% of the healthy scans of each source exceed."""
    return _needed(block).map(lambda logit: float(np.mean(block["logit"][block["label"] == 1] > logit)))


def _needed(block: pd.DataFrame) -> pd.Series:
    """The logit that 5% of the healthy scans of each source exceed."""
    return block[block["label"] == 0].groupby("source")["logit"].quantile(0.95)


def beside(block: pd.DataFrame, other: pd.DataFrame) -> Figures:
    """Return the AUC of one fit's predictions on a block less another's, with its 90% interval.

    The bootstrap draws people and groups of copies, the same for both (what a change of the recipe is judged by).
    """
    labels, mine, theirs = (table.to_numpy(float) for table in (block["label"], block["logit"], other["logit"]))
    drawn = [
        roc_auc_score(labels[rows], mine[rows]) - roc_auc_score(labels[rows], theirs[rows])
        for rows in figures.resampled(block, seed=0)
    ]
    low, high = np.quantile(drawn, [0.05, 0.95])
    difference = roc_auc_score(labels, mine) - roc_auc_score(labels, theirs)
    return {"difference": float(difference), "low": float(low), "high": float(high)}


def risk_coverage(table: pd.DataFrame) -> dict[str, Figures]:
    """Return, without the predictions in the band of doubt and with them, the share answered and the share wrong."""
    wrong = (table["probability"] >= table["threshold"]) != (table["label"] == 1)
    sure = (table["probability"] < table["uncertain_from"]) | (table["probability"] > table["uncertain_to"])
    return {
        "all predictions": {"coverage": 1.0, "wrong": float(wrong.mean())},
        "without uncertain ones": {"coverage": float(sure.mean()), "wrong": float(wrong[sure].mean())},
        "uncertain ones alone": {"coverage": float(1 - sure.mean()), "wrong": float(wrong[~sure].mean())},
    }
