"""Any classifier of prepared scans on the same questions: blocks of sources, home test, corruptions, what to refuse.

A model is named on the command line as NAME=WHAT, where WHAT is `module:callable` (uint8 images (n, 128, 128) to
probabilities of Cancer (n,), and NaN for what it refuses), a folder with a release, an `.onnx` or `.tflite` file with
one input of (n or 1, h, w, c) in [0, 1] and one output, or the address of a service that answers `POST /v1/predict`,
which prepares the prepared image again.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier

from services.training.data import ood_images
from services.training.data.quality import SHORTCUTS, seen_by_shortcuts
from services.training.data.scans import inputs
from services.training.evaluation import blocks, metrics, robustness
from services.training.experiment import Experiment
from shared.ml.model import Model, read_release
from shared.ml.release_files import CARD_FILE

Classifier = Callable[[np.ndarray], np.ndarray]
"""From prepared images, uint8 (n, 128, 128), to probabilities of Cancer (n,); NaN for what is refused."""

CORRUPTIONS = ("noise, sigma 10 of 255", "sharpening, 150% at sigma 1", "rotation by 90 degrees")
SCANS_OF_A_CLASS = 400
"""At most so many of each source and class: the rest would change no figure and take long."""


def measured(experiment: Experiment, data: str, models: list[str]) -> pd.DataFrame:
    """Return a row per model: AUC on each block and on the home test, on corrupted test scans, and what it refuses.

    Raises SystemExit with a sentence for data without a test, and for a model that cannot be had.
    """
    if not (experiment.split == "test").any():
        raise SystemExit(f"{data} holds too few people for a home test: add labelled scans of more.")
    rows = [{"model": name} | _figures(experiment, data, classifier) for name, classifier in map(_named, models)]
    rows += [{"model": f"shortcut: {name}"} | found for name, found in _shortcuts(experiment).items()]
    return pd.DataFrame(rows).set_index("model")


def as_markdown(table: pd.DataFrame) -> str:
    """Return docs/leaderboard.md."""
    names = list(table.columns)
    lines = ["| model | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    rows = table.fillna("").iterrows()  # a shortcut is not asked what it cannot answer
    lines += [f"| {name} | " + " | ".join(str(row[key]) for key in names) + " |" for name, row in rows]
    return HEAD + "\n".join(lines) + "\n"


HEAD = """# Leaderboard

`make leaderboard DATA=folder MODEL=NAME=WHAT` measures any classifier on the same scans (see
`services/training/evaluation/leaderboard.py` for what WHAT may be) and writes this page. AUC with its 95% interval, by
bootstrap over people and groups of copies; at most 400 scans per source and class. Block A is stripped (gliomas
of BraTS against OASIS-1 and ds002748), B and C have skulls (Br35H against BRISC and open-ms; Kaggle against itself).
A release that trained on a block's sources is at home there: only a model that never saw them meets the unseen.
OOD images refused: the share of images that are no brain MRI that get no probability. A shortcut sees no tumour, only
what its name says; it learns on the training scans outside the block.

"""


def _figures(experiment: Experiment, data: str, classifier: Classifier) -> dict[str, str]:
    table, images = experiment.scans.table, experiment.scans.images
    found = {}
    for block in blocks.present(table):
        rows = _some(table, block.rows(table))
        found[f"block {block.name}, AUC"] = _auc(experiment, rows, classifier(images[rows]))
    home = _some(table, experiment.split == "test")
    found["home test, AUC"] = _auc(experiment, home, classifier(images[home]))
    for name in CORRUPTIONS:
        changed = robustness.changed(images[home], robustness.CHANGES[name])
        found[f"{name}, AUC"] = _auc(experiment, home, classifier(changed))
    kinds = ood_images.read_real(Path(data)) | ood_images.to_test(images[home], 20, np.random.default_rng(7))
    refused = np.isnan(classifier(np.concatenate(list(kinds.values()))))
    return found | {
        "scans refused": f"{np.isnan(classifier(images[home])).mean():.1%}",
        "OOD images refused": f"{refused.mean():.1%}",
    }


def _some(table: pd.DataFrame, mask: np.ndarray) -> np.ndarray:
    rng, rows = np.random.default_rng(0), np.flatnonzero(mask)
    keys = (table["source"] + table["label"].astype(str)).to_numpy(str)[rows]
    kept = [rng.permutation(rows[keys == key])[:SCANS_OF_A_CLASS] for key in np.unique(keys)]
    return np.sort(np.concatenate(kept))


def _auc(experiment: Experiment, rows: np.ndarray, probabilities: np.ndarray) -> str:
    """AUC with its interval; what is refused counts as the least probable."""
    table = pd.DataFrame(
        {
            "label": experiment.scans.table["label"].to_numpy()[rows],
            "group": experiment.groups[rows],
            "probability": np.nan_to_num(probabilities, nan=-1.0),
        }
    )
    labels, values = table["label"].to_numpy(), table["probability"].to_numpy()
    drawn = [_area(labels[r], values[r]) for r in metrics.resampled(table, seed=0)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{_area(labels, values):.3f} ({low:.3f} to {high:.3f})"


def _area(labels: np.ndarray, values: np.ndarray) -> float:
    """Mann and Whitney's form of the AUC, which takes a tenth of the time that scikit-learn's takes to check it."""
    tumours = labels.sum()
    ranks = rankdata(values)[labels == 1].sum()
    return float((ranks - tumours * (tumours + 1) / 2) / tumours / (len(labels) - tumours))


def _shortcuts(experiment: Experiment) -> dict[str, dict[str, str]]:
    """The shortcut rules on the blocks, each learnt on training scans outside the block, and on the home test."""
    table, labels = experiment.scans.table, experiment.scans.table["label"].to_numpy()
    test = experiment.split == "test"
    found: dict[str, dict[str, str]] = {}
    for name, seen in zip(SHORTCUTS, seen_by_shortcuts(experiment.scans), strict=True):
        asked = {f"block {block.name}, AUC": block.rows(table) for block in blocks.present(table)}
        asked["home test, AUC"] = test
        found[name] = {}
        for question, mask in asked.items():
            rows, learnt = _some(table, mask), ~test & ~mask
            if len(np.unique(labels[learnt])) < 2:
                continue  # all that there is, or all of a class, is this block
            forest = RandomForestClassifier(100, class_weight="balanced", random_state=0, min_samples_leaf=2)
            forest.fit(seen[learnt], labels[learnt])
            found[name][question] = _auc(experiment, rows, forest.predict_proba(seen[rows])[:, 1])
    return found


def _named(text: str) -> tuple[str, Classifier]:
    name, _, what = text.partition("=")
    if not what:
        raise SystemExit(f"{text!r}: name a model as NAME=WHAT, such as now=services/inference/release.")
    return name, _classifier(what)


def _classifier(what: str) -> Classifier:
    if what.startswith(("http://", "https://")):
        return _service(what)
    if (Path(what) / CARD_FILE).exists():
        return _release(read_release(Path(what)))
    if what.endswith(".onnx"):
        return _onnx(what)
    if what.endswith(".tflite"):
        return _litert(what)
    module, _, function = what.partition(":")
    found: Classifier = getattr(importlib.import_module(module), function)
    return found


def _release(model: Model) -> Classifier:
    def classify(images: np.ndarray) -> np.ndarray:
        found = [model.predict(scan) for scan in inputs(images)]
        return np.array([one.probability if one.is_brain_mri else np.nan for one in found])

    return classify


def _service(address: str) -> Classifier:
    import requests  # noqa: PLC0415 - only this entrant needs it

    def classify(images: np.ndarray) -> np.ndarray:
        found = []
        for image in images:
            png = cv2.imencode(".png", image)[1].tobytes()
            answer = requests.post(f"{address.rstrip('/')}/v1/predict", data=png, timeout=30)
            answer.raise_for_status()
            said: dict[str, Any] = answer.json()
            found.append(np.nan if said["prediction"] == "Not a brain MRI" else said["probability"])
        return np.array(found, float)

    return classify


def _litert(path: str) -> Classifier:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    run = Interpreter(model_path=path).get_signature_runner()
    (name, details), *_ = run.get_input_details().items()

    def classify(images: np.ndarray) -> np.ndarray:
        scans = _shaped(images, tuple(details["shape"]))
        return np.array([float(np.ravel(next(iter(run(**{name: scan[None]}).values())))[-1]) for scan in scans])

    return classify


def _onnx(path: str) -> Classifier:
    import onnxruntime  # noqa: PLC0415 - only this entrant needs it

    session = onnxruntime.InferenceSession(path)
    first = session.get_inputs()[0]

    def classify(images: np.ndarray) -> np.ndarray:
        scans = _shaped(images, tuple(side if isinstance(side, int) else 0 for side in first.shape))
        return np.array([float(np.ravel(session.run(None, {first.name: scan[None]})[0])[-1]) for scan in scans])

    return classify


def _shaped(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images as a model of input shape (n, h, w, c) or (n, c, h, w) wants them; float32 in [0, 1]."""
    last = shape[-1] in (1, 3)
    height, width, channels = shape[1:] if last else (*shape[2:], shape[1])
    sized = np.stack([cv2.resize(image, (width or 128, height or 128)) for image in images]).astype(np.float32) / 255
    stacked = np.repeat(sized[..., None], channels, axis=3)
    return stacked if last else np.moveaxis(stacked, 3, 1)
