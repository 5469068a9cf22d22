"""Train, cross-validate and report: `python -m services.training COMMAND --help`."""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import pandas as pd

from services.training import experiment as experiments
from services.training.data.corrections import read_corrections, read_images
from services.training.evaluation import checks, leaderboard, left_out, measurements, report
from services.training.finetuning.finetune import PLAN, Current, finetune
from services.training.modelling import export, ood
from services.training.modelling.schedule import Schedule
from services.training.release import build, promotion, rollout
from services.training.release.writing import write_release
from shared.gcp.environment import settle_environment
from shared.gcp.registry import RELEASES, current_model, read_file
from shared.ml.model import read_release
from shared.ml.release_files import GRAPH_FILE

FOLDER = Path(".local/training")
SHIPPED = Path("services/inference/release")
REPORT = Path("reports/current")
LEADERBOARD = Path("docs/leaderboard.md")


def main() -> None:
    """Run one command. Each resumes if an earlier run of it was killed."""
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except promotion.Refused as refused:
        raise SystemExit(str(refused)) from refused


def train(arguments: argparse.Namespace) -> None:
    """Fit, calibrate, export, and check; the release goes to FOLDER/release."""
    frozen = promotion.frozen_test() if arguments.frozen else frozenset[str]()
    experiment = experiments.read_experiment(arguments.data, arguments.folder, frozen)
    if not (experiment.split == "test").any():
        raise SystemExit(
            "None of the current release's test scans is in the data: without them nothing can be compared."
        )
    experiments.write_split(experiment, arguments.data)
    plan = Schedule(epochs=arguments.epochs, rate=arguments.rate, start=arguments.start)
    unseen = left_out.read_left_out(experiment)
    # Without blocks of sources left out, validation has to do for calibration, so the fit must not see it.
    rows = (experiment.split == "train") if unseen is None else experiments.learnable(experiment)
    network = experiments.fitted(experiment, "fit", rows, plan)
    if unseen is None:
        export.round_to_shipped(network)
        watched = experiment.split == "validation"
        unseen = left_out.predictions(network, experiment.scans.only(watched), experiment.groups[watched])
    types_learnt = bool((experiment.scans.table["type"][rows] != "").any())
    release = build.build(network, unseen, build.refusal(experiment, arguments.data), types_learnt)
    card = write_release(experiment, release, experiments.run_folder(experiment, "fit", rows, plan))
    print(f"Version {card.version}: AUC on test {card.metrics['test']['auc_roc']:.4f}. Next: make report.")


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
    plan = replace(PLAN, epochs=arguments.epochs, rate=arguments.rate)
    card = finetune(experiment, corrections, read_images, current, plan)
    print(f"Version {card.version}, from {model.card.version}; it learnt from {card.metrics['learnt_from']['scans']}.")
    if arguments.shadow:
        shadow(argparse.Namespace(release=arguments.folder / "release", data=arguments.data))


def crossvalidate(arguments: argparse.Namespace) -> None:
    """Fit once without each block of sources, and keep the predictions on it."""
    experiment = experiments.read_experiment(arguments.data, arguments.folder)
    found = left_out.crossvalidate(experiment, Schedule(epochs=arguments.epochs))
    print(found.groupby(["block", "source", "label"]).size())


def write_report(arguments: argparse.Namespace) -> None:
    """Measure FOLDER/release, write reports/current, and put the release where inference ships it."""
    folder = arguments.folder
    experiment, model = experiments.read_run(folder), read_release(folder / "release")
    measured = measurements.of_splits(model, experiment)
    unseen = left_out.read_left_out(experiment)
    if unseen is not None:
        measured["leave_one_source_out"] = measurements.calibrated_across(unseen)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="fit, calibrate and export")
    one.add_argument("--epochs", type=int, default=20)
    one.add_argument("--rate", type=float, default=8e-4, help="the highest learning rate")
    one.add_argument("--start", type=Path, help="weights of an earlier fit to go on from, instead of ImageNet's")
    one.add_argument(
        "--frozen", action="store_true", help="test on what the current release in MODELS_BUCKET was tested on"
    )
    one.set_defaults(command=train)
    blocks = commands.add_parser("crossvalidate", help="fit without each block of sources")
    blocks.add_argument("--epochs", type=int, default=20)
    blocks.set_defaults(command=crossvalidate)
    on = commands.add_parser("finetune", help="fit on from the release in service with readers' corrections")
    on.add_argument("--epochs", type=int, default=PLAN.epochs, help="of the whole network; 0: the last layer alone")
    on.add_argument("--rate", type=float, default=PLAN.rate, help="the highest learning rate of these epochs")
    on.add_argument("--shadow", action="store_true", help="let it answer in shadow then, if it may")
    on.set_defaults(command=learn_corrections)
    page = commands.add_parser("report", help="measure and draw the last training run, and ship it")
    page.set_defaults(command=write_report)
    ranking = commands.add_parser("leaderboard", help="measure any model on the blocks; writes docs/leaderboard.md")
    ranking.add_argument("--model", action="append", default=[], help="NAME=module:callable, file.onnx, .tflite or URL")
    ranking.set_defaults(command=rank)
    for command in (one, blocks, on, page, ranking):
        command.add_argument("--data", required=command is not page, help="folder of labelled scans, or gs://BUCKET")
        command.add_argument("--folder", type=Path, default=FOLDER, help="where the run is kept")
    beside = commands.add_parser("shadow", help="let a release that meets the offline criteria answer in shadow")
    beside.add_argument("--release", type=Path, default=FOLDER / "release")
    beside.add_argument(
        "--data", help="folder or gs://BUCKET with the frozen test's scans; default: the last training's"
    )
    beside.set_defaults(command=shadow)
    some = commands.add_parser("canary", help="let the challenger answer a share of the scans, if live scans allow")
    some.add_argument("--share", type=_share, default=0.05, help="of the scans, between 0 and 1 (default: %(default)s)")
    some.set_defaults(command=lambda arguments: print(rollout.canary(arguments.share)))
    up = commands.add_parser("promote", help="make the challenger current after its canary")
    up.set_defaults(command=lambda _: print(rollout.promote()))
    back = commands.add_parser("rollback", help="withdraw the challenger; without one, go back to the previous version")
    back.set_defaults(command=lambda _: print(rollout.rollback()))
    return parser


def shadow(arguments: argparse.Namespace) -> None:
    """Put a release into shadow if both graphs, run on the frozen test, say that it is no worse."""
    folder = arguments.release.parent
    data = arguments.data or (folder / experiments.DATA_FILE).read_text()
    print(rollout.shadow(arguments.release, *experiments.frozen_scans(data, folder, arguments.release)))


def _share(text: str) -> float:
    """Return the share that an argument gives. Raises ArgumentTypeError unless it is between 0 and 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of the scans: give a number between 0 and 1")
    return share


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
