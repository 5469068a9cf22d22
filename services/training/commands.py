"""What each command of services.training does; __main__ names them and their arguments."""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import pandas as pd
from sklearn.metrics import roc_auc_score

from services.training import experiment as experiments
from services.training.data import contact_sheets
from services.training.data.copies import copies
from services.training.data.corrections import read_corrections, read_images
from services.training.data.scans import read_cached
from services.training.evaluation import checks, leaderboard, left_out, left_out_figures, measurements, report
from services.training.experiment import Experiment
from services.training.finetuning.finetune import Current, finetune
from services.training.finetuning.refusing import refit_refusal
from services.training.modelling import export, ood
from services.training.modelling.schedule import FINETUNING, Schedule
from services.training.release import build, export_backbone, promotion, rollout
from services.training.release.writing import write_release
from shared.gcp.environment import settle_environment
from shared.gcp.registry import RELEASES, current_model, read_file
from shared.ml.model import read_release
from shared.ml.release_files import GRAPH_FILE, TEST_FILE

SHIPPED = Path("services/inference/release")
REPORT = Path("reports/current")
LEADERBOARD = Path("docs/leaderboard.md")


def run(arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name. Raises SystemExit with a sentence if it cannot be done."""
    keras.utils.set_random_seed(0)
    try:
        _COMMANDS[arguments.command](arguments)
    except promotion.Refused as refused:
        raise SystemExit(str(refused)) from refused


def train(arguments: argparse.Namespace) -> None:
    """Fit, calibrate, export, and check; the release goes to FOLDER/release.

    Raises SystemExit for several fits without a start.
    """
    plan = _plan(arguments)
    experiment = _tested_on(promotion.frozen_test() if arguments.frozen else frozenset[str](), arguments)
    unseen = left_out.read_left_out(experiment)
    # Without blocks of sources left out, validation has to do for calibration, so the fit must not see it.
    rows = (experiment.split == "train") if unseen is None else experiments.learnable(experiment)
    network = experiments.fitted_together(experiment, "fit", rows, plan, arguments.fits)
    if unseen is None:
        export.round_to_shipped(network)
        watched = experiment.split == "validation"
        unseen = left_out.predictions(network, experiment.scans.only(watched), experiment.groups[watched])
    types_learnt = bool((experiment.scans.table["type"][rows] != "").any())
    release = build.build(network, unseen, build.refusal(experiment, arguments.data), types_learnt)
    run = experiments.run_folder(experiment, "fit", rows, plan)
    card = write_release(experiment, release, run, fits=arguments.fits)
    print(f"Version {card.version}: AUC on test {card.metrics['test']['auc_roc']:.4f}. Next: make report.")


def _tested_on(frozen: frozenset[str], arguments: argparse.Namespace) -> Experiment:
    """Return the experiment of the data, and write its split. Raises SystemExit if it has no test."""
    experiment = experiments.read_experiment(arguments.data, arguments.folder, frozen)
    if not (experiment.split == "test").any():
        raise SystemExit(
            "None of the current release's test scans is in the data: without them nothing can be compared."
        )
    experiments.write_split(experiment, arguments.data)
    return experiment


def _plan(arguments: argparse.Namespace) -> Schedule:
    """Raises SystemExit for several fits from ImageNet's weights: they lie too far apart to be averaged."""
    if arguments.fits > 1 and not arguments.start:
        raise SystemExit("Fits are averaged only from a start in common: give --start weights of an earlier fit.")
    return Schedule(epochs=arguments.epochs, rate=arguments.rate, start=arguments.start)


def learn_corrections(arguments: argparse.Namespace) -> None:
    """Fit on from the release in service, with what readers said of its scans; the release goes to FOLDER/release."""
    if not settle_environment():
        raise SystemExit(
            "Corrections lie in a system's tables: start one here (make demo) or set GOOGLE_CLOUD_PROJECT."
        )
    model = current_model()
    current = Current(model, read_file(RELEASES, model.card.version, GRAPH_FILE))
    experiment = experiments.read_experiment(arguments.data, arguments.folder, promotion.frozen_test())
    experiments.write_split(experiment, arguments.data)
    corrections = read_corrections()
    plan = replace(FINETUNING, epochs=arguments.epochs, rate=arguments.rate)
    card = finetune(experiment, corrections, read_images, current, plan)
    print(f"Version {card.version}, from {model.card.version}; it learnt from {card.metrics['learnt_from']['scans']}.")
    if arguments.shadow:
        shadow(argparse.Namespace(release=arguments.folder / "release", data=arguments.data))


def learn_refusal(arguments: argparse.Namespace) -> None:
    """Fit what is refused again, and put it beside the network of a release; the release goes to FOLDER/release."""
    release = arguments.release or SHIPPED
    experiment = _tested_on(frozenset((release / TEST_FILE).read_text().split()), arguments)
    card = refit_refusal(experiment, arguments.data, release)
    print(f"Version {card.version}, from {card.metrics['learnt_from']['from_release']}. Next: make report.")


def crossvalidate(arguments: argparse.Namespace) -> None:
    """Fit without each block of sources, and keep the predictions on it.

    Raises SystemExit for several fits without a start.
    """
    plan = replace(_plan(arguments), seed=arguments.seed, without=arguments.without)
    experiment = experiments.read_experiment(arguments.data, arguments.folder)
    for block in left_out.blocks(experiment, arguments.block):
        found = left_out.crossvalidate(experiment, plan, block, arguments.fits)
        line = f"Block {block.name}: AUC {roc_auc_score(found['label'], found['logit']):.3f}"
        for source, share in left_out_figures.sensitivities(found).items():
            line += f"; sensitivity at 95% specificity in {source} {share:.2f}"
        if (whole := left_out.whole_recipe(experiment, plan, block, arguments.fits)) is not None:
            line += "; AUC {difference:+.3f} ({low:+.3f} to {high:+.3f}) beside one fit of the whole recipe".format(
                **left_out_figures.beside(found, whole)
            )
        print(line, flush=True)
    if left_out.calibrates(plan):
        print(f"`make train` calibrates by these fits from now on ({arguments.folder / left_out.INDEX_FILE}).")


def write_report(arguments: argparse.Namespace) -> None:
    """Measure FOLDER/release, write reports/current, and put the release where inference ships it."""
    folder = arguments.folder
    experiment, model = experiments.read_run(folder), read_release(folder / "release")
    measured = measurements.of_splits(model, experiment)
    unseen = left_out.read_left_out(experiment)
    if unseen is not None:
        measured[measurements.LEFT_OUT] = left_out_figures.calibrated_across(unseen)
    content = report.write(model, experiment, measured, checks.read(folder), REPORT)
    shutil.copy(folder / experiments.SPLIT_FILE, REPORT)
    shutil.copytree(folder / "release", SHIPPED, dirs_exist_ok=True)
    shutil.copy(folder / ood.FITTED.name, ood.FITTED)
    print(f"{REPORT}/report.html: AUC on test {content['test']['auc_roc']:.4f}")


def rank(arguments: argparse.Namespace) -> None:
    """Measure models on the blocks, the home test, corruptions and images to refuse; write docs/leaderboard.md."""
    experiment = experiments.read_experiment(arguments.data, arguments.folder)
    table: pd.DataFrame = leaderboard.measured(experiment, arguments.data, arguments.model)
    LEADERBOARD.write_text(leaderboard.as_markdown(table))
    print(table.to_string())


def write_contact_sheets(arguments: argparse.Namespace) -> None:
    """Write one of each group of copies of every healthy scan, excluded ones too, to FOLDER/contact-sheets."""
    scans = read_cached(arguments.data, arguments.folder / "prepared")
    healthy = scans.only(scans.table["label"].to_numpy() == 0)
    folder = arguments.folder / "contact-sheets"
    index = contact_sheets.write(healthy, copies(healthy.images), folder)
    print(f"{len(index)} of {len(healthy)} healthy scans on {index['sheet'].max()} sheets in {folder}")


def shadow(arguments: argparse.Namespace) -> None:
    """Put a release into shadow if both graphs, run on the frozen test, say that it is no worse."""
    folder = arguments.release.parent
    data = arguments.data or (folder / experiments.DATA_FILE).read_text()
    print(rollout.shadow(arguments.release, *experiments.frozen_scans(data, folder, arguments.release)))


def write_backbone(arguments: argparse.Namespace) -> None:
    """Write the graph of a network pre-trained on ImageNet."""
    network = export_backbone.NETWORKS[arguments.network](arguments.weights)
    arguments.graph.write_bytes(export_backbone.export(network))


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": train,
    "crossvalidate": crossvalidate,
    "finetune": learn_corrections,
    "refusal": learn_refusal,
    "report": write_report,
    "leaderboard": rank,
    "contact-sheets": write_contact_sheets,
    "shadow": shadow,
    "canary": lambda arguments: print(rollout.canary(arguments.share)),
    "promote": lambda _: print(rollout.promote()),
    "rollback": lambda _: print(rollout.rollback()),
    "backbone": write_backbone,
}
