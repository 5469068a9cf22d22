"""How unlike a brain MRI an image is: the out-of-distribution (OOD) score.

It reads what ImageNet's own filters make of an image, which no fit changes: a network that has learnt tumours forgets
what else tells a knee from a brain, and what is fitted on unchanging features can be judged by sources left out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from services.training.data import ood_images
from services.training.modelling import augmentation
from services.training.modelling.map_statistics import WHOLE, statistics
from shared.imaging.preprocessing import stretched

ACCEPTED = 0.98
"""Share of the heads of a source that was left out that must not be refused, each person (or picture, of unknown
people) weighing alike: sixty turned copies of one odd picture are one head."""
_PENALTY = 0.003
_HEADS_OF_A_SOURCE = 350
_ROUNDS = 3
"""Variants of every real image that is no brain MRI; as many again, twice, in other windows if it is CT."""
_AXES = 64
"""Principal axes of the heads along which the distance is measured by their own spread; beyond, it is small."""
_SHRINKAGE = 1.0
"""Added to the variance along every axis, in units of a feature's own."""


@dataclass(frozen=True)
class OODClassifier:
    """Two scores on statistics of ImageNet's maps, of which the larger one counts.

    The one is the logit of a logistic regression on heads and other images: it knows the kinds that it learnt. The
    other is the logarithm of the Mahalanobis distance from all heads: it finds kinds that nobody showed it. Both are
    in units in which left-out heads reach 0. All arrays are rounded to half precision, as they ship.
    """

    middle: np.ndarray
    """Mean of the heads' features, (d,), of which the last `WHOLE` are those of whole maps."""
    scale: np.ndarray
    """One over their standard deviations, (d,)."""
    weights: np.ndarray
    """Of the logistic regression, (d,)."""
    axes: np.ndarray
    """Principal axes of the last features, each as long as the share of its variance that the distance leaves out."""
    offset: float
    distance_scale: float
    distance_offset: float

    def __call__(self, statistics: keras.KerasTensor) -> keras.KerasTensor:
        """Return the score, (n,) from (n, d), of arrays or as a part of a graph."""
        centred = (statistics - _float(self.middle)) * _float(self.scale)
        logit = keras.ops.squeeze(keras.ops.matmul(centred, _float(self.weights)[:, None]), -1) + self.offset
        whole = centred[:, -len(self.axes) :]
        along = keras.ops.matmul(whole, _float(self.axes))
        squared = keras.ops.sum(keras.ops.square(whole), -1) - keras.ops.sum(keras.ops.square(along), -1)
        distance = keras.ops.log(keras.ops.maximum(squared, 1.0)) * self.distance_scale + self.distance_offset
        return keras.ops.maximum(logit, distance)


def _float(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


FITTED = Path(__file__).with_name("ood_classifier.npz")
"""The classifier and its limit as last fitted with other organs at hand; no fit of a network changes their features."""


def read_fitted(path: Path = FITTED) -> tuple[OODClassifier, float]:
    """Return the classifier and limit that `write_fitted` wrote."""
    with np.load(path) as content:
        classifier = OODClassifier(
            middle=content["middle"],
            scale=content["scale"],
            weights=content["weights"],
            axes=content["axes"],
            offset=float(content["offset"]),
            distance_scale=float(content["distance_scale"]),
            distance_offset=float(content["distance_offset"]),
        )
        return classifier, float(content["limit"])


def write_fitted(classifier: OODClassifier, accepted_to: float, path: Path) -> None:
    """Write a classifier and its limit."""
    np.savez_compressed(path, limit=accepted_to, **asdict(classifier))


@dataclass(frozen=True)
class Examples:
    """Features to fit the classifier on."""

    heads: np.ndarray
    varied: np.ndarray
    """Of the same heads, augmented."""
    sources: np.ndarray
    """Of each head."""
    people: np.ndarray
    """Of each head: the number of its person, or of its group of copies."""
    images: Mapping[str, np.ndarray]
    """OOD images by kind."""
    varied_images: Mapping[str, np.ndarray]
    """The same, mirrored, turned and in other tones, CT in other windows too. One round of all after another."""


def read_examples(
    heads: np.ndarray,
    sources: np.ndarray,
    people: np.ndarray,
    real: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> Examples:
    """Return features of some heads of each source, and of other organs, CT, made CT, photographs, text and noise.

    `heads` are prepared images to train on; those of `real` are by kind, with "CT" in the names of CT.
    """
    chosen = np.concatenate([_some(np.flatnonzero(sources == one), rng) for one in np.unique(sources)])
    heads, sources, people = heads[chosen], sources[chosen], people[chosen]
    made = np.stack([ood_images.made_tomography(heads[i], rng) for i in rng.integers(len(heads), size=400)])
    drawn = ood_images.to_learn(heads, 900, rng)
    images = {**real, "made CT": made, "drawings": drawn}
    return Examples(
        heads=statistics(heads),
        varied=statistics(np.stack([augmentation.augmented(image, rng) for image in heads])),
        sources=sources,
        people=people,
        images={kind: statistics(found) for kind, found in images.items()},
        varied_images={kind: statistics(_varied(found, rng, "CT" in kind)) for kind, found in real.items()},
    )


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(rows, min(_HEADS_OF_A_SOURCE, len(rows)), replace=False)


def _varied(images: np.ndarray, rng: np.random.Generator, tomography: bool) -> np.ndarray:
    placed = [augmentation.placed(image, rng) for _ in range(_ROUNDS) for image in images]
    toned = [augmentation.recurved(image, rng) if rng.random() < 0.5 else image for image in placed]
    if tomography:
        toned += [
            ood_images.windowed(augmentation.placed(image, rng), rng) for _ in range(2 * _ROUNDS) for image in images
        ]
    return np.stack([stretched(image) for image in toned])


@dataclass(frozen=True)
class _Parts:
    """What a classifier is made of, before its two scores are in units that can be compared."""

    middle: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    offset: float
    axes: np.ndarray

    def scores(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and logarithms of squared distances, each (n,) from (n, d)."""
        centred = (features - self.middle) * self.scale
        whole = centred[:, -len(self.axes) :]
        squared = (whole**2).sum(axis=1) - ((whole @ self.axes) ** 2).sum(axis=1)
        return centred @ self.weights + self.offset, np.log(np.maximum(squared, 1.0))


@dataclass(frozen=True)
class Units:
    """Of each of the two scores: what `ACCEPTED` of the heads of a left-out source stay under, and its spread."""

    logit: tuple[float, float]
    distance: tuple[float, float]


def units(examples: Examples) -> Units:
    """Return the units of both scores, from heads of every source by the parts fitted without it."""
    found = {
        one: _parts(examples, one, "").scores(examples.heads[examples.sources == one])
        for one in np.unique(examples.sources)
    }
    logits, distances = ({one: both[place] for one, both in found.items()} for place in range(2))
    logit, distance = (
        (_accepting(examples, each), float(np.concatenate(list(each.values())).std())) for each in (logits, distances)
    )
    return Units(logit, distance)


def _accepting(examples: Examples, scores: Mapping[str, np.ndarray]) -> float:
    """The least score that `ACCEPTED` of the heads of every source do not exceed, each person weighing alike."""
    found = []
    for source, reached in scores.items():
        people = examples.people[examples.sources == source]
        _, number, slices = np.unique(people, return_inverse=True, return_counts=True)
        found.append(float(np.quantile(reached, ACCEPTED, weights=1 / slices[number], method="inverted_cdf")))
    return max(found)


def fit(examples: Examples, known: Units, without_source: str = "", without_kind: str = "") -> OODClassifier:
    """Return the classifier; for judging it, one source of heads and one kind of image can be left out."""
    parts = _parts(examples, without_source, without_kind)
    (reached, spread), (far, wide) = known.logit, known.distance
    return OODClassifier(
        middle=_half(parts.middle),
        scale=_half(parts.scale),
        weights=_half(parts.weights / spread),
        axes=_half(parts.axes),
        offset=(parts.offset - reached) / spread,
        distance_scale=1 / wide,
        distance_offset=-far / wide,
    )


def _half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


def _parts(examples: Examples, without_source: str, without_kind: str) -> _Parts:
    kept = examples.sources != without_source
    heads = np.concatenate([examples.heads[kept], examples.varied[kept]]).astype(np.float64)
    others = [
        part for by in (examples.images, examples.varied_images) for kind, part in by.items() if kind != without_kind
    ]
    # Rounded first, so that the rest is fitted on what ships.
    middle, scale = (_half(part).astype(np.float64) for part in (heads.mean(axis=0), 1 / (heads.std(axis=0) + 1e-6)))
    slopes, offset = _logistic(heads, np.concatenate(others).astype(np.float64))
    axes = _axes(((heads - middle) * scale)[:, -WHOLE:])
    return _Parts(middle, scale, slopes / scale, offset + float(middle @ slopes), axes)


def _logistic(heads: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """Slopes by feature and offset of the regression, both classes weighing alike."""
    features = np.concatenate([heads, others])
    answers = np.repeat([0, 1], [len(heads), len(others)])
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    weights = np.where(answers == 1, 1 / answers.sum(), 1 / (1 - answers).sum()) * len(answers) / 2
    fitted = LogisticRegression(C=_PENALTY, max_iter=300).fit((features - middle) / spread, answers, weights)
    slopes = fitted.coef_[0] / spread
    return slopes, float(fitted.intercept_[0] - middle @ slopes)


def _axes(centred: np.ndarray) -> np.ndarray:
    """Principal axes (d, k) such that |x|^2 - |x @ axes|^2 is the squared Mahalanobis distance, shrunken.

    With variance v along a unit axis the distance counts 1 / (v + 1) of the square, so v / (v + 1) is left out.
    """
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    largest = np.argsort(variances)[::-1][:_AXES]
    kept = np.maximum(variances[largest], 0)
    return np.asarray(axes[:, largest] * np.sqrt(kept / (kept + _SHRINKAGE)))


def limit(examples: Examples, known: Units) -> float:
    """Return the least score that `ACCEPTED` of the heads of every source stay under when the source is left out."""
    return _accepting(
        examples,
        {
            one: _scores(fit(examples, known, without_source=one), examples.heads[examples.sources == one])
            for one in np.unique(examples.sources)
        },
    )


def judge(examples: Examples, known: Units, accepted: float) -> dict[str, dict[str, float]]:
    """Return, for each kind of image, what is refused of it when neither it nor a source of heads was learnt.

    `accepted` is their `limit`. `auroc` and `refused` are means over the sources left out; `refused_if_learnt` has the
    kind learnt and a third of its images left out at a time. Of each source: the share of its heads refused when it is
    left out.
    """
    found: dict[str, dict[str, float]] = {}
    for source in np.unique(examples.sources):
        scores = _scores(fit(examples, known, without_source=source), examples.heads[examples.sources == source])
        found[f"heads of {source}, left out"] = {"refused": float(np.mean(scores > accepted))}
    for kind in examples.varied_images:
        aurocs, refused = [], []
        for source in np.unique(examples.sources):
            classifier = fit(examples, known, without_source=source, without_kind=kind)
            heads = _scores(classifier, examples.heads[examples.sources == source])
            images = _scores(classifier, examples.images[kind])
            answers = np.repeat([0, 1], [len(heads), len(images)])
            aurocs.append(roc_auc_score(answers, np.concatenate([heads, images])))
            refused.append(np.mean(images > accepted))
        found[f"{kind}, left out"] = {
            "auroc": float(np.mean(aurocs)),
            "refused": float(np.mean(refused)),
            "refused_if_learnt": float(np.mean(_of_thirds(examples, known, kind) > accepted)),
        }
    return found


def _of_thirds(examples: Examples, known: Units, kind: str) -> np.ndarray:
    """Scores of a kind's images, each by a classifier that learnt the other two thirds of the kind."""
    images, varied = examples.images[kind], examples.varied_images[kind]
    third = np.arange(len(images)) * 3 // len(images)
    again = np.tile(third, len(varied) // len(images))
    scores = []
    for left in range(3):
        kept = {**examples.images, kind: images[third != left]}, {**examples.varied_images, kind: varied[again != left]}
        part = replace(examples, images=kept[0], varied_images=kept[1])
        scores.append(_scores(fit(part, known), images[third == left]))
    return np.concatenate(scores)


def _scores(classifier: OODClassifier, features: np.ndarray) -> np.ndarray:
    return np.asarray(classifier(features)).ravel()
