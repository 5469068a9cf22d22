"""One study: the scans, their groups and parts, and what a fitted network answers on them, kept in a folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training import audit, augment, calibrate, export, novelty, strangers, train
from services.training.data import Scans, inputs, read_cached
from services.training.export import Release
from services.training.split import FOLDS, folds, split, strata
from services.training.train import Schedule

EXCLUDED = Path(__file__).parent / "excluded.json"
"""Reason by scan id for scans whose label a look at them contradicts."""

SEED = 0


@dataclass(frozen=True)
class Study:
    """Scans without the excluded ones, in groups of copies, split."""

    scans: Scans
    groups: np.ndarray
    parts: np.ndarray
    """train, validation or test."""
    folds: np.ndarray
    """0 to 4."""
    excluded: Scans
    """Left out of all of these, by content and with a reason."""
    folder: Path

    def test_scans(self) -> list[str]:
        """Scan ids of the test, in order: two releases compare only where they are the same."""
        return self.scans.table["scan_id"][self.parts == "test"].tolist()

    def fitted(
        self, name: str, rows: np.ndarray, schedule: Schedule, validation: np.ndarray | None = None
    ) -> keras.Model:
        """The network fitted on these rows (a mask), or as it was fitted before under this name."""
        watched = None if validation is None else self.scans.only(validation)
        return train.fit(self.scans.only(rows), self.groups[rows], schedule, self.folder / name, watched)

    def predictions(self, network: keras.Model, rows: np.ndarray) -> pd.DataFrame:
        """scan_id, label, type, source, kind, group and the network's `logit` for the rows under a mask."""
        scans = self.scans.only(rows)
        return scans.table.assign(
            kind=strata(scans.table),
            group=self.groups[rows],
            part=self.parts[rows],
            logit=export.features(network, scans.inputs())["logit"],
        )


def read_study(data: str, folder: Path, frozen: frozenset[str] = frozenset()) -> Study:
    """Read, group and split scans, then leave out the excluded; the manifest goes to `folder`/split.csv.

    `frozen`: see `split`.
    """
    every = read_cached(data, folder / "prepared")
    groups = audit.groups(every.images, every.table["patient"].to_numpy(str))
    excluded = every.table["scan_id"].isin(json.loads(EXCLUDED.read_text())).to_numpy()
    parts = np.where(excluded, "excluded", split(every.table, groups, SEED, frozen))
    dealt = np.where(excluded, -1, folds(every.table, groups, SEED))
    manifest = every.table[["scan_id", "label", "type", "source"]]
    manifest.assign(group=groups, part=parts, fold=dealt).to_csv(folder / "split.csv", index=False)
    kept = ~excluded
    return Study(every.only(kept), groups[kept], parts[kept], dealt[kept], every.only(excluded), folder)


def released(study: Study, network: keras.Model) -> tuple[Release, pd.DataFrame]:
    """The network rounded as it ships, calibrated, its refusal fitted; and predictions on validation and test."""
    export.round_to_shipped(network)
    predictions = study.predictions(network, study.parts != "train")
    validation = predictions[predictions["part"] == "validation"]
    labels = validation["label"].to_numpy()
    slope, offset = calibrate.platt(validation["logit"].to_numpy(), labels)
    predictions["probability"] = calibrate.calibrated(predictions["logit"].to_numpy(), slope, offset)
    threshold = calibrate.operating_threshold(predictions["probability"][validation.index].to_numpy(), labels)
    score, limit = _refusal(study, network)
    return Release(network, slope, offset, threshold, score, limit), predictions


def _refusal(study: Study, network: keras.Model) -> tuple[novelty.Novelty, float]:
    """Fitted on scans to train on, plain and augmented, against strangers; its limit from validation."""
    rng = np.random.default_rng(SEED)
    heads = study.scans.images[study.parts == "train"]
    heads = heads[rng.choice(len(heads), min(len(heads), 1500), replace=False)]
    varied = np.stack([augment.augmented(image, rng) for image in heads])
    real = export.features(network, inputs(np.concatenate([heads, varied])))["features"]
    strange = export.features(network, inputs(strangers.to_learn(heads, 1800, rng)))["features"]
    score = novelty.fit(real, strange)
    validation = export.features(network, study.scans.only(study.parts == "validation").inputs())["features"]
    scores = [np.asarray(score(features))[:, 0] for features in (validation, strange)]
    return score, novelty.limit(*scores)


def crossvalidated(study: Study, schedule: Schedule) -> pd.DataFrame:
    """Predictions on every scan by a network that saw none of its fold; probabilities calibrated on the fold after it.

    Each finished fold is kept, so that a killed run goes on with the next.
    """
    found = []
    for fold in range(FOLDS):
        path = study.folder / f"fold{fold}.csv"
        if not path.exists():
            following = study.folds == (fold + 1) % FOLDS
            test = study.folds == fold
            network = study.fitted(f"fold{fold}", ~test & ~following, schedule)
            _calibrated_on(study, network, following, test).to_csv(path, index=False)
        found.append(pd.read_csv(path, keep_default_na=False))
    return pd.concat(found, ignore_index=True)


def without_source(study: Study, source: str, schedule: Schedule) -> pd.DataFrame:
    """Predictions on the tumours of a source that training, validation and calibration never saw.

    Beside them stand the scans without a tumour of validation and test: without any, no specificity can be told.
    """
    path = study.folder / f"without-{source}.csv"
    if not path.exists():
        left_out = (study.scans.table["source"] == source).to_numpy()
        healthy = (study.scans.table["label"] == 0).to_numpy()
        seen = study.parts == "train"
        network = study.fitted(f"without-{source}", seen & ~left_out, schedule)
        calibration = (study.parts == "validation") & ~left_out
        tested = (left_out & ~healthy) | (healthy & (study.parts == "test"))
        _calibrated_on(study, network, calibration, tested).to_csv(path, index=False)
    return pd.read_csv(path, keep_default_na=False)


def _calibrated_on(study: Study, network: keras.Model, calibration: np.ndarray, tested: np.ndarray) -> pd.DataFrame:
    seen = study.predictions(network, calibration)
    slope, offset = calibrate.platt(seen["logit"].to_numpy(), seen["label"].to_numpy())
    answers = study.predictions(network, tested)
    return answers.assign(probability=calibrate.calibrated(answers["logit"].to_numpy(), slope, offset))
