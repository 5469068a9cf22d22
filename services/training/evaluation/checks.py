"""What must hold of every export: Grad-CAM's identity, the graph's equality with Keras, its size and speed."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from services.training.data.scans import inputs
from services.training.evaluation import explanation
from services.training.experiment import Experiment
from services.training.modelling import export
from services.training.modelling.export import Release
from shared.ml.model import Prediction, read_release
from shared.ml.release_files import GRAPH_FILE

FILE = "checks.json"
REFUSAL_FILE = "refusal.json"
"""How well the refusal does on kinds of images and sources of heads that were left out."""


def write(experiment: Experiment, release: Release, folder: Path, run: Path, fits: int) -> None:
    """Measure the release in `folder`/release, whose network was fitted in `run`, and keep the figures.

    A fit of the last layer alone has no epochs, and leaves no history in `run`; of several `fits` the pace is the first
    one's.
    """
    found: dict[str, Any] = {**_of_graph(experiment, release, folder), **_pace(run / "history.csv"), "fits": fits}
    judged = folder / REFUSAL_FILE
    if judged.exists():
        found["refusal_left_out"] = json.loads(judged.read_text())
    (folder / FILE).write_text(json.dumps(found, indent=1))


def read(folder: Path) -> dict[str, Any]:
    """Return the figures that `write` kept."""
    return dict(json.loads((folder / FILE).read_text()))


def _of_graph(experiment: Experiment, release: Release, folder: Path) -> dict[str, float]:
    rows = np.random.default_rng(0).choice(len(experiment.scans), min(200, len(experiment.scans)), replace=False)
    scans = inputs(experiment.scans.images[rows])
    graph = export.assembled(release).predict(scans, batch_size=50, verbose=0)
    model = read_release(folder / "release")
    found: list[Prediction] = []
    seconds = []
    for scan in scans:
        started = time.perf_counter()
        found.append(model.predict(scan))
        seconds.append(time.perf_counter() - started)
    network, some = release.network, scans[:32]
    maps = explanation.heat_maps(network, some) - explanation.gradient_heat_maps(network, some)
    return {
        "gradient_difference": float(np.abs(maps).max()),
        "likeness_to_random_weights": explanation.randomised_likeness(network, some),
        "likeness_to_the_outline": explanation.outline_likeness(network, some),
        "export_difference_probability": _difference(graph["probability"], [one.probability for one in found]),
        "export_difference_heat_map": _difference(graph["heat_map"], [one.heat_map for one in found]),
        "export_difference_types": _difference(graph["types"], [list(one.types.values()) for one in found]),
        "export_difference_ood_score": _difference(graph["ood_score"], [one.ood_score for one in found]),
        "milliseconds_one_thread": float(np.median(seconds) * 1e3),
        # What the processor takes where nothing else wants it.
        "milliseconds_one_thread_fastest_tenth": float(np.quantile(seconds, 0.1) * 1e3),
        "megabytes": (folder / "release" / GRAPH_FILE).stat().st_size / 1e6,
    }


def _difference(keras_says: np.ndarray, litert_says: list[object]) -> float:
    return float(np.abs(keras_says - np.array(litert_says)).max())


def _pace(history: Path) -> dict[str, float]:
    if not history.exists():
        return {"epochs": 0}
    epochs = pd.read_csv(history)
    return {
        "epochs": len(epochs),
        "seconds_per_epoch": float(epochs["seconds"].median()),
        "share_of_time_waiting_for_images": float(epochs["waiting"].median()),
    }
