"""A release in a folder: graph, card, frozen test and reference, measured and checked."""

from pathlib import Path
from typing import Any

from services.training import experiment as experiments
from services.training.evaluation import checks, left_out, metrics
from services.training.experiment import Experiment
from services.training.modelling import export, ood
from services.training.modelling.export import Release
from services.training.release import build
from services.training.release.drift_reference import drift_reference
from shared.ml.model import Card, read_release
from shared.ml.release_files import REFERENCE_FILE, TEST_FILE


def write_release(
    experiment: Experiment, release: Release, run: Path, learnt: dict[str, Any] | None = None, fits: int = 1
) -> Card:
    """Export a release to the experiment's folder, measure its test, and check its graph; return its card.

    `run` is the folder of its fit, or of the first of the `fits` that it is the mean of; `learnt` is what the card says
    of the release and the corrections that it learnt from.
    """
    folder, rows = experiment.folder, experiment.split == "test"
    tested = left_out.predictions(release.network, experiment.scans.only(rows), experiment.groups[rows])
    tested["probability"] = build.probabilities(release, tested["logit"].to_numpy())
    figures = {
        "test": metrics.with_intervals(tested, release.threshold),
        "test_manifest": experiments.test_manifest(experiment),
        **({"learnt_from": learnt} if learnt else {}),
    }
    card = export.write(release, folder / "release", figures)
    (folder / "release" / TEST_FILE).write_text("\n".join(experiments.test_scans(experiment)))
    reference = drift_reference(read_release(folder / "release"), experiment.scans.only(rows))
    (folder / "release" / REFERENCE_FILE).write_bytes(reference.to_bytes())
    ood.write_fitted(release.ood, release.ood_limit, folder / ood.FITTED.name)
    checks.write(experiment, release, folder, run, fits)
    return card
