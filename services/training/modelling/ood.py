"""How unlike a brain MRI an image is: the out-of-distribution (OOD) score.

It reads what ImageNet's own filters make of an image, which no fit changes: a network that has learnt tumours forgets
what else tells a knee from a brain, and what is fitted on unchanging features can be judged by sources left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from services.training.data import ood_images
from services.training.data.scans import inputs
from services.training.modelling import augmentation
from services.training.modelling.network import network
from shared.imaging.preprocessing import stretched

ACCEPTED = 0.98
"""Share of the heads of a source that was left out that must not be refused."""
_PENALTY = 0.003
_HEADS_OF_A_SOURCE = 350

EARLY = "blocks.3._expand_conv"
"""The layer that takes the first map (32 x 32 x 24), up to which every network keeps ImageNet's weights."""
_MAPS = (EARLY, "blocks.5._expand_conv", "blocks.11._expand_conv")
"""Layers that take the maps of which means and standard deviations are the features."""


@dataclass(frozen=True)
class OODClassifier:
    """A logistic regression on statistics of ImageNet maps: its logit is the OOD score."""

    weights: np.ndarray
    """(d,)"""
    offset: float

    def __call__(self, statistics: keras.KerasTensor) -> keras.KerasTensor:
        """Return the score, (n,) from (n, d), of arrays or as a part of a graph."""
        return statistics @ self.weights.astype(np.float32)[:, None] + np.float32(self.offset)


FITTED = Path(__file__).with_name("ood_classifier.json")
"""The classifier and its limit as last fitted with other organs at hand; no fit of a network changes their features."""


def read_fitted() -> tuple[OODClassifier, float]:
    """Return the classifier and limit of `FITTED`."""
    content = json.loads(FITTED.read_text())
    return OODClassifier(np.array(content["weights"]), content["offset"]), content["limit"]


def as_json(classifier: OODClassifier, accepted_to: float) -> str:
    """Return the content of `FITTED`."""
    weights = [float(f"{weight:.6g}") for weight in classifier.weights]
    return json.dumps({"limit": accepted_to, "offset": classifier.offset, "weights": weights}) + "\n"


def late_statistics() -> keras.Model:
    """Return the network from the first map to the statistics (n, 352), with ImageNet's weights throughout."""
    whole = network()
    maps = [whole.get_layer(name).input for name in _MAPS]
    return keras.Model(maps[0], keras.layers.Concatenate()([part for one in maps for part in _statistics(one)]))


def _statistics(x: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    variance = keras.ops.mean(keras.ops.square(x - mean), axis=(1, 2))
    return keras.ops.squeeze(mean, (1, 2)), keras.ops.sqrt(variance + 1e-5)


def statistics(images: np.ndarray) -> np.ndarray:
    """Return the features of prepared images, uint8 (n, 128, 128), float32 (n, 352)."""
    whole, late = network(), late_statistics()
    scan = keras.Input((None, None, 3))
    early = keras.Model(whole.input, whole.get_layer(EARLY).input)
    found = keras.Model(scan, late(early(scan))).predict(inputs(images), batch_size=64, verbose=0)
    return np.asarray(found)


@dataclass(frozen=True)
class Examples:
    """Features to fit the classifier on."""

    heads: np.ndarray
    varied: np.ndarray
    """Of the same heads, augmented."""
    sources: np.ndarray
    """Of each head."""
    images: Mapping[str, np.ndarray]
    """OOD images by kind."""
    varied_images: Mapping[str, np.ndarray]
    """The same, mirrored, turned and in other tones."""


def read_examples(
    heads: np.ndarray, sources: np.ndarray, real: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Examples:
    """Return features of some heads of each source, and of other organs, CT, made CT, photographs, text and noise.

    `heads` are prepared images to train on, `real` are those of `ood_images.read_real`.
    """
    chosen = np.concatenate([_some(np.flatnonzero(sources == one), rng) for one in np.unique(sources)])
    heads, sources = heads[chosen], sources[chosen]
    made = np.stack([ood_images.made_tomography(heads[i], rng) for i in rng.integers(len(heads), size=400)])
    drawn = ood_images.to_learn(heads, 900, rng)
    images = {**real, "made CT": made, "drawings": drawn}
    return Examples(
        heads=statistics(heads),
        varied=statistics(np.stack([augmentation.augmented(image, rng) for image in heads])),
        sources=sources,
        images={kind: statistics(found) for kind, found in images.items()},
        varied_images={kind: statistics(_varied(found, rng)) for kind, found in real.items()},
    )


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(rows, min(_HEADS_OF_A_SOURCE, len(rows)), replace=False)


def _varied(images: np.ndarray, rng: np.random.Generator, times: int = 3) -> np.ndarray:
    placed = [augmentation.placed(image, rng) for _ in range(times) for image in images]
    toned = [augmentation.recurved(image, rng) if rng.random() < 0.5 else image for image in placed]
    return np.stack([stretched(image) for image in toned])


def fit(examples: Examples, without_source: str = "", without_kind: str = "") -> OODClassifier:
    """Return the classifier; for judging it, one source of heads and one kind of image can be left out."""
    kept = examples.sources != without_source
    heads = np.concatenate([examples.heads[kept], examples.varied[kept]])
    others = [
        part for by in (examples.images, examples.varied_images) for kind, part in by.items() if kind != without_kind
    ]
    features = np.concatenate([heads, *others])
    answers = np.repeat([0, 1], [len(heads), len(features) - len(heads)])
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    weights = np.where(answers == 1, 1 / answers.sum(), 1 / (1 - answers).sum()) * len(answers) / 2
    fitted = LogisticRegression(C=_PENALTY, max_iter=300).fit((features - middle) / spread, answers, weights)
    slopes = fitted.coef_[0] / spread
    return OODClassifier(slopes, float(fitted.intercept_[0] - middle @ slopes))


def limit(examples: Examples) -> float:
    """Return the least score that `ACCEPTED` of the heads of every source stay under when the source is left out."""
    found = []
    for source in np.unique(examples.sources):
        scores = np.asarray(fit(examples, without_source=source)(examples.heads[examples.sources == source]))
        found.append(np.quantile(scores, ACCEPTED))
    return float(max(found))


def judge(examples: Examples) -> dict[str, dict[str, float]]:
    """Return, for each kind of image, what is refused of it when neither it nor a source of heads was learnt.

    `auroc` and `refused` are means over the sources left out; `refused_if_learnt` has the kind learnt and a third of
    its images left out at a time. Of each source: the share of its heads refused when it is left out.
    """
    accepted = limit(examples)
    found: dict[str, dict[str, float]] = {}
    for source in np.unique(examples.sources):
        scores = _scores(fit(examples, without_source=source), examples.heads[examples.sources == source])
        found[f"heads of {source}, left out"] = {"refused": float(np.mean(scores > accepted))}
    for kind in examples.varied_images:
        aurocs, refused = [], []
        for source in np.unique(examples.sources):
            classifier = fit(examples, without_source=source, without_kind=kind)
            heads = _scores(classifier, examples.heads[examples.sources == source])
            images = _scores(classifier, examples.images[kind])
            answers = np.repeat([0, 1], [len(heads), len(images)])
            aurocs.append(roc_auc_score(answers, np.concatenate([heads, images])))
            refused.append(np.mean(images > accepted))
        found[f"{kind}, left out"] = {
            "auroc": float(np.mean(aurocs)),
            "refused": float(np.mean(refused)),
            "refused_if_learnt": float(np.mean(_of_thirds(examples, kind) > accepted)),
        }
    return found


def _of_thirds(examples: Examples, kind: str) -> np.ndarray:
    """Scores of a kind's images, each by a classifier that learnt the other two thirds of the kind."""
    images, varied = examples.images[kind], examples.varied_images[kind]
    third = np.arange(len(images)) * 3 // len(images)
    again = np.tile(third, len(varied) // len(images))
    scores = []
    for left in range(3):
        kept = {**examples.images, kind: images[third != left]}, {**examples.varied_images, kind: varied[again != left]}
        part = replace(examples, images=kept[0], varied_images=kept[1])
        scores.append(_scores(fit(part), images[third == left]))
    return np.concatenate(scores)


def _scores(classifier: OODClassifier, features: np.ndarray) -> np.ndarray:
    return np.asarray(classifier(features)).ravel()
