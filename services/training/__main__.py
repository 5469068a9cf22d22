"""Train, cross-validate and report: `python -m services.training COMMAND --help`."""

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from services.training import evaluate, explain, export, measure, registry, report
from services.training.data import inputs
from services.training.export import Release
from services.training.study import Study, crossvalidated, read_study, released, without_source
from services.training.train import Schedule
from shared.ml.model import GRAPH_FILE, TEST_FILE, read_release

FOLDER = Path(".local/training")
SHIPPED = Path("services/inference/release")
REPORT = Path("reports/current")


def main() -> None:
    """Run one command. Each goes on where a killed run of it stopped."""
    arguments = _parser().parse_args()
    arguments.command(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Fit, calibrate, export, and check; the release goes to FOLDER/release."""
    study = _study(arguments, registry.frozen_test() if arguments.frozen else frozenset())
    schedule = Schedule(epochs=arguments.epochs, start=arguments.start)
    network = study.fitted("fit", study.parts == "train", schedule, study.parts == "validation")
    release, predictions = released(study, network)
    test = predictions[predictions["part"] == "test"]
    tested = "\n".join(study.test_scans())
    figures = {
        "test": evaluate.with_intervals(test, release.threshold),
        "test_manifest": hashlib.sha256(tested.encode()).hexdigest(),
    }
    card = export.write(release, arguments.folder / "release", figures)
    (arguments.folder / "release" / TEST_FILE).write_text(tested)
    checks = _checks(study, release, arguments.folder) | _pace(arguments.folder / "fit" / "history.csv", schedule)
    (arguments.folder / "checks.json").write_text(json.dumps(checks, indent=1))
    print(f"Version {card.version}: accuracy on test {figures['test']['accuracy']:.4f}. Next: make report.")


def crossvalidate(arguments: argparse.Namespace) -> None:
    """Fit once a fold of whole groups, and once without each source that has tumours only."""
    study = _study(arguments)
    schedule = Schedule(epochs=arguments.epochs)
    for source in _tumour_only(study):
        without_source(study, source, schedule)
    crossvalidated(study, schedule)


def write_report(arguments: argparse.Namespace) -> None:
    """Measure FOLDER/release, write reports/current, and put the release where inference ships it."""
    folder = arguments.folder
    arguments.data = arguments.data or (folder / "data.txt").read_text()
    study, model = _study(arguments), read_release(folder / "release")
    measured = measure.parts(model, study) | _kept(study)
    metrics = report.write(model, study, measured, json.loads((folder / "checks.json").read_text()), REPORT)
    shutil.copy(folder / "split.csv", REPORT)
    shutil.copytree(folder / "release", SHIPPED, dirs_exist_ok=True)
    print(f"{REPORT}/report.html: accuracy on test {metrics['test']['accuracy']:.4f}")


def _study(arguments: argparse.Namespace, frozen: frozenset[str] = frozenset()) -> Study:
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "data.txt").write_text(arguments.data)
    return read_study(arguments.data, arguments.folder, frozen)


def _tumour_only(study: Study) -> list[str]:
    """Sources without a healthy scan: the label could be told from the source alone."""
    healthy = study.scans.table.groupby("source")["label"].min()
    return list(healthy.index[healthy == 1])


def _kept(study: Study) -> dict[str, pd.DataFrame]:
    """Cross-validation and left-out source as far as they were run."""
    found = {"cross_validation": "fold*.csv", "leave_one_source_out": "without-*.csv"}
    files = {name: sorted(study.folder.glob(pattern)) for name, pattern in found.items()}
    return {
        name: pd.concat([pd.read_csv(path, keep_default_na=False) for path in paths], ignore_index=True)
        for name, paths in files.items()
        if paths
    }


def _checks(study: Study, release: Release, folder: Path) -> dict[str, float]:
    """What must hold of every export: Grad-CAM's identity, the graph's equality with Keras, its size and speed."""
    rows = np.random.default_rng(0).choice(len(study.scans), min(500, len(study.scans)), replace=False)
    scans = inputs(study.scans.images[rows])
    graph = export.assembled(release).predict(scans, batch_size=50, verbose=0)
    model = read_release(folder / "release")
    answers, seconds = [], []
    for scan in scans:
        started = time.perf_counter()
        answers.append(model.predict(scan))
        seconds.append(time.perf_counter() - started)
    maps = explain.heat_maps(release.network, scans[:32]) - explain.gradient_heat_maps(release.network, scans[:32])
    return {
        "gradient_difference": float(np.abs(maps).max()),
        "likeness_to_random_weights": explain.randomised_likeness(release.network, scans[:64]),
        "export_difference_probability": _difference(graph["probability"], [a.probability for a in answers]),
        "export_difference_heat_map": _difference(graph["heat_map"], [a.heat_map for a in answers]),
        "export_difference_types": _difference(graph["types"], [list(a.types.values()) for a in answers]),
        "milliseconds_one_thread": float(np.median(seconds) * 1e3),
        # What the processor takes where nothing else wants it.
        "milliseconds_one_thread_fastest_tenth": float(np.quantile(seconds, 0.1) * 1e3),
        "megabytes": (folder / "release" / GRAPH_FILE).stat().st_size / 1e6,
    }


def _difference(keras_says: np.ndarray, litert_says: list) -> float:
    return float(np.abs(keras_says - np.array(litert_says)).max())


def _pace(history: Path, schedule: Schedule) -> dict[str, float]:
    epochs = pd.read_csv(history)
    return {
        "epochs": len(epochs),
        "seconds_per_epoch": float(epochs["seconds"].median()),
        "images_per_second": float(schedule.steps * schedule.batch / epochs["seconds"].median()),
        "share_of_time_waiting_for_images": float(epochs["waiting"].median()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="fit, calibrate and export")
    one.add_argument("--epochs", type=int, default=15)
    one.add_argument("--start", type=Path, help="weights of an earlier fit to go on from, instead of ImageNet's")
    one.add_argument(
        "--frozen", action="store_true", help="test on what the current release in MODELS_BUCKET was tested on"
    )
    one.set_defaults(command=train)
    folds = commands.add_parser("crossvalidate", help="fit on five folds, and without each source of tumours only")
    folds.add_argument("--epochs", type=int, default=15)
    folds.set_defaults(command=crossvalidate)
    page = commands.add_parser("report", help="measure and draw the last training run, and ship it")
    page.set_defaults(command=write_report)
    for command in (one, folds, page):
        command.add_argument("--data", required=command is not page, help="folder of labelled scans, or gs://BUCKET")
        command.add_argument("--folder", type=Path, default=FOLDER, help="where the run is kept")
    up = commands.add_parser("promote", help="put a release into the models bucket, if the gate lets it pass")
    up.add_argument("--release", type=Path, default=FOLDER / "release")
    up.set_defaults(command=lambda arguments: print(registry.promote(arguments.release)))
    commands.add_parser("rollback", help="make the previous version current again").set_defaults(
        command=lambda _: print(registry.rollback())
    )
    return parser


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
