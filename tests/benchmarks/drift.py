"""Whether drift is found, and nothing else taken for it: streams of real scans replayed into the released model.

Prints a table and writes `.local/bench/drift.json`. Beside the permutation test stand two others on the same windows:
the maximum mean discrepancy of the embeddings, with permutations too, and what the charts of Operations show, a
Kolmogorov-Smirnov test on the probabilities.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy import stats

from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml import drift
from shared.ml.features import pixel_statistics
from shared.ml.model import Model, read_release

RELEASE = Path("services/inference/release")
OUTPUT = Path(".local/bench/drift.json")
HOME = {"glioma": 1, "meningioma": 1, "pituitary": 1, "notumor": 0}
AWAY = {"br35h/yes": 1, "rsna-t1c/yes": 1, "brats-t2-flair/yes": 1, "ds002748/no": 0, "oasis/no": 0, "open-ms/no": 0}
FILES = 400
"""Of each folder."""
WINDOW = 50
DAYS, SCANS_A_DAY = 30, 200

Pixels = np.ndarray


@dataclass(frozen=True)
class Stream:
    """Scans that were read once: what the pipeline would know of each."""

    scans: drift.Scans
    labels: np.ndarray
    probabilities: np.ndarray

    def take(self, rows: np.ndarray) -> "Stream":
        """Return some rows."""
        chosen = np.zeros(len(self.labels), bool)
        chosen[rows] = True
        return Stream(self.scans.rows(chosen), self.labels[chosen], self.probabilities[chosen])


def main() -> None:
    """Measure every stream."""
    arguments = _parser().parse_args()
    model, rng = read_release(RELEASE), np.random.default_rng(0)
    home = _read(model, {arguments.data / "kaggle/Training" / name: label for name, label in HOME.items()}, rng)
    order = rng.permutation(len(home.labels))
    reference, pool = home.take(order[: len(order) // 2]), home.take(order[len(order) // 2 :])
    away = _read(model, {arguments.data / name: label for name, label in AWAY.items()}, rng)
    sharpened, coarse = (_changed(model, arguments.data, change, rng) for change in (_sharpened, _as_coarse_jpeg))
    streams: dict[str, Callable[[int], Stream]] = {
        "half from other sources": partial(_mixed, pool, away, 0.5),
        "half sharpened": partial(_mixed, pool, sharpened, 0.5),
        "half in another file format": partial(_mixed, pool, coarse, 0.5),
        "case mix only": partial(_mixed, pool, pool, 0.0, tumours=0.3),
    }
    found = {name: _measured(reference, draw, arguments.draws) for name, draw in streams.items()}
    alarms = _quiet_month(reference.scans, pool)
    figures = {
        "half_swapped_found_within_50": found["half from other sources"]["inputs"],
        "case_mix_named": found["case mix only"]["case mix"],
        "false_alarms_30_days": alarms,
        "accuracy_estimate_error": _estimate_error(pool, arguments.draws),
        "draws": arguments.draws,
        "window": WINDOW,
        **{f"{name}, {test}": share for name, shares in found.items() for test, share in shares.items()},
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1))
    for name, value in figures.items():
        print(f"{name:60} {value:.3f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("SCANFLOW_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of real scans (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=200, help="windows of each stream (default: %(default)s)")
    return parser


def _files(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    yield from (files[i] for i in rng.permutation(len(files))[:FILES])


def _read(
    model: Model,
    folders: dict[Path, int],
    rng: np.random.Generator,
    change: Callable[[Pixels], Pixels] | None = None,
) -> Stream:
    """Return what the pipeline would know of some files of each folder, changed first where asked."""
    rows, labels, probabilities, sources = [], [], [], []
    for folder, label in folders.items():
        for path in _files(folder, rng):
            page = decode(path.read_bytes()).pages[0]
            tensor = prepare(change(page) if change else page)
            prediction = model.predict(tensor)
            statistics = pixel_statistics(tensor)
            quality = [statistics[name] for name in ("mean", "std", "skewness", "kurtosis")]
            rows.append((prediction.embedding, model.predicted_class(prediction), quality))
            labels.append(label)
            probabilities.append(prediction.probability)
            sources.append("kaggle" if "kaggle" in folder.parts else folder.parent.name)
    scans = drift.Scans(
        embeddings=np.array([embedding for embedding, _, _ in rows]),
        predicted=[predicted for _, predicted, _ in rows],
        attributes={"source": sources},
        quality=np.array([quality for _, _, quality in rows]),
    )
    return Stream(scans, np.array(labels), np.array(probabilities))


def _changed(model: Model, data: Path, change: Callable[[Pixels], Pixels], rng: np.random.Generator) -> Stream:
    return _read(model, {data / "kaggle/Training" / name: label for name, label in HOME.items()}, rng, change)


def _sharpened(page: Pixels) -> Pixels:
    return cv2.addWeighted(page, 2.5, cv2.GaussianBlur(page, (0, 0), 2), -1.5, 0)


def _as_coarse_jpeg(page: Pixels) -> Pixels:
    return cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_UNCHANGED)


def _mixed(own: Stream, other: Stream, share: float, seed: int, *, tumours: float = 0.8, n: int = WINDOW) -> Stream:
    """Return n scans, four fifths of them tumours, a share of them from the other stream; none twice."""
    rng = np.random.default_rng(seed)
    parts = []
    for label, of_label in ((1, tumours), (0, 1 - tumours)):
        wanted = round(n * of_label)
        foreign = round(wanted * share)
        for stream, count in ((own, wanted - foreign), (other, foreign)):
            parts.append(stream.take(rng.choice(np.flatnonzero(stream.labels == label), count, replace=False)))
    return _joined(parts)


def _joined(parts: list[Stream]) -> Stream:
    scans = drift.Scans(
        embeddings=np.concatenate([part.scans.embeddings for part in parts]),
        predicted=[name for part in parts for name in part.scans.predicted],
        attributes={"source": [name for part in parts for name in part.scans.attributes["source"]]},
        quality=np.concatenate([part.scans.quality for part in parts]),
    )
    return Stream(scans, *(np.concatenate([getattr(p, name) for p in parts]) for name in ("labels", "probabilities")))


def _measured(home: Stream, draw: Callable[[int], Stream], draws: int) -> dict[str, float]:
    """Return the share of windows that each test finds changed, all at the same level."""
    hits: dict[str, list[bool]] = {
        "inputs": [],
        "case mix": [],
        "named source": [],
        "MMD": [],
        "KS on probabilities": [],
    }
    known = home.scans.embeddings[np.random.default_rng(0).permutation(len(home.labels))[:200]]
    for seed in range(draws):
        window = draw(seed)
        verdict = drift.check(home.scans, window.scans, seed=seed)
        hits["inputs"].append(verdict.change == "inputs")
        hits["case mix"].append(verdict.change == "case mix")
        hits["named source"].append(verdict.cause == "source")
        hits["MMD"].append(_mmd_p(known, window.scans.embeddings, seed) < verdict.level)
        hits["KS on probabilities"].append(_ks_p(home, window) < verdict.level)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def _ks_p(home: Stream, window: Stream) -> float:
    """Return how likely the probabilities of Cancer are those of the home stream, as the chart shows it."""
    return float(stats.ks_2samp(window.probabilities, home.probabilities).pvalue)


def _mmd_p(known: np.ndarray, new: np.ndarray, seed: int, permutations: int = 499) -> float:
    """Return the permutation p-value of the maximum mean discrepancy (Gretton et al. 2012), median bandwidth."""
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([known, new])
    squares = np.square(pooled).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pooled @ pooled.T, 0)
    kernel = np.exp(-distances / np.median(distances[distances > 0]))
    weights = np.full((permutations + 1, len(pooled)), -1 / len(known))
    weights[0, len(known) :] = 1 / len(new)
    for row in weights[1:]:
        row[rng.choice(len(pooled), len(new), replace=False)] = 1 / len(new)
    found = np.einsum("ij,ij->i", weights @ kernel, weights)
    return float(np.mean(found >= found[0]))


def _quiet_month(reference: drift.Scans, pool: Stream) -> int:
    """Return the alarms of a month in which nothing changes: each check sees the newest 100 of 200 scans a day."""
    rng = np.random.default_rng(1)
    days = [_mixed(pool, pool, 0.0, seed=day, tumours=0.75, n=SCANS_A_DAY) for day in range(DAYS)]
    alarms = 0
    for day in days:
        order = rng.permutation(SCANS_A_DAY)
        for check in range(drift.CHECKS_PER_DAY):
            newest = np.roll(order, check * SCANS_A_DAY // drift.CHECKS_PER_DAY)[:100]
            alarms += drift.check(reference, day.take(newest).scans, seed=check).change == "inputs"
    return alarms


def _estimate_error(pool: Stream, draws: int) -> float:
    """Return the mean distance between promised and true accuracy in windows of 200 scans that nothing changed."""
    errors = []
    for seed in range(draws):
        window = _mixed(pool, pool, 0.0, seed=seed, n=SCANS_A_DAY)
        accuracy = np.mean((window.probabilities >= 0.5) == window.labels)
        errors.append(abs(drift.expected_accuracy(window.probabilities) - accuracy))
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
