"""Train, cross-validate and report: `python -m services.training COMMAND --help`."""

import argparse
from pathlib import Path

from services.training.modelling.schedule import FINETUNING, PARTS

FOLDER = Path(".local/training")


def main() -> None:
    """Run one command. Each resumes if an earlier run of it was killed."""
    arguments = _parser().parse_args()
    from services.training import commands  # noqa: PLC0415 - loads TensorFlow: seconds, of which --help needs none

    commands.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="fit, calibrate and export")
    blocks = commands.add_parser("crossvalidate", help="fit without each block of sources")
    _add_fits(one, blocks)
    on = commands.add_parser("finetune", help="fit on from the release in service with readers' corrections")
    on.add_argument(
        "--epochs", type=int, default=FINETUNING.epochs, help="of the whole network; 0: the last layer alone"
    )
    on.add_argument("--rate", type=float, default=FINETUNING.rate, help="the highest learning rate of these epochs")
    on.add_argument("--shadow", action="store_true", help="let it answer in shadow then, if it may")
    organs = commands.add_parser("refusal", help="fit again what is refused; all else of a release stays")
    organs.add_argument("--release", type=Path, help="its folder (default: the one that ships)")
    page = commands.add_parser("report", help="measure and draw the last training run, and ship it")
    ranking = commands.add_parser("leaderboard", help="measure any model on the blocks; writes docs/leaderboard.md")
    ranking.add_argument("--model", action="append", default=[], help="NAME=module:callable, file.onnx, .tflite or URL")
    sheets = commands.add_parser("contact-sheets", help="draw every healthy scan, to read its label again blind")
    for command in (one, blocks, on, organs, page, ranking, sheets):
        command.add_argument(
            "--data", type=_scans, required=command is not page, help="folder of labelled scans, or gs://BUCKET"
        )
        command.add_argument("--folder", type=Path, default=FOLDER, help="where the run is kept")
    beside = commands.add_parser("shadow", help="let a release that meets the offline criteria answer in shadow")
    beside.add_argument("--release", type=Path, default=FOLDER / "release")
    beside.add_argument(
        "--data", type=_scans, help="folder or gs://BUCKET with the frozen test's scans; default: the last training's"
    )
    some = commands.add_parser("canary", help="let the challenger answer a share of the scans, if live scans allow")
    some.add_argument("--share", type=_share, default=0.05, help="of the scans, between 0 and 1 (default: %(default)s)")
    commands.add_parser("promote", help="make the challenger current after its canary")
    commands.add_parser("rollback", help="withdraw the challenger; without one, go back to the previous version")
    graph = commands.add_parser("backbone", help="export the ImageNet network of the Spark job's CNN features")
    graph.add_argument("graph", type=Path, help="file to write")
    graph.add_argument("--network", choices=["efficientnet-lite0", "resnet50"], default="efficientnet-lite0")
    graph.add_argument("--weights", type=Path, help="ResNet50's weights without its classifier, as Keras keeps them")
    return parser


def _add_fits(one: argparse.ArgumentParser, blocks: argparse.ArgumentParser) -> None:
    """Add the arguments of the two commands that fit the whole network."""
    one.add_argument(
        "--frozen", action="store_true", help="test on what the current release in MODELS_BUCKET was tested on"
    )
    blocks.add_argument("--block", action="append", default=[], help="this block alone (A, B or C); may be repeated")
    blocks.add_argument(
        "--seed", type=int, default=0, help="of the draws: the spread of several is the noise; only 0 is calibrated by"
    )
    parts = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    blocks.add_argument(
        "--without", choices=PARTS, default="", help=f"leave one part of the recipe out, to see its worth ({parts})"
    )
    for command, fit in ((one, "an earlier fit"), (blocks, "an earlier fit without the same block")):
        command.add_argument(
            "--fits",
            type=_count,
            default=1,
            help="average the weights of so many fits, each with draws of its own; they need a --start in common",
        )
        command.add_argument("--epochs", type=int, default=20)
        command.add_argument("--rate", type=float, default=8e-4, help="the highest learning rate")
        command.add_argument("--start", type=Path, help=f"weights of {fit} to go on from, instead of ImageNet's")


def _scans(text: str) -> str:
    """Return the folder or bucket that an argument names. Raises ArgumentTypeError if there is no such folder."""
    if not text.startswith("gs://") and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return text


def _count(text: str) -> int:
    """Return the number that an argument gives. Raises ArgumentTypeError unless it is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of fits: give 1 or more")
    return int(text)


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
    main()
