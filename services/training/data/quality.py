"""What the data is before anything learns from it: copies, contradictions, and what a shortcut alone would score."""

from collections.abc import Iterator

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from services.training.data.scans import Scans
from shared.imaging.preprocessing import SIDE

NEAR = 0.87
"""Correlation of two fingerprints from which two images are copies; the report shows pairs on both sides of it."""

_FINGERPRINT = 32


def groups(images: np.ndarray, patients: np.ndarray | None = None, near: float = NEAR) -> np.ndarray:
    """Group number of each prepared image, uint8 (n, 128, 128): chains of copies, however flipped or re-toned.

    Images of one patient, where `patients` names one (empty: unknown), are one group too.
    """
    first, second, _ = similar_pairs(images, near)
    if patients is not None:
        of_one = [np.flatnonzero(patients == patient) for patient in np.unique(patients[patients != ""])]
        first = np.concatenate([first, *(rows[:-1] for rows in of_one)])
        second = np.concatenate([second, *(rows[1:] for rows in of_one)])
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(images), len(images)))
    return connected_components(links, directed=False)[1]


def similar_pairs(images: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (i < j) whose fingerprints correlate at least so much in one of the eight orientations, and how much."""
    prints = np.stack([fingerprint(image) for image in images])
    pairs = [_near_rows(prints, turned, near) for turned in _orientations(prints)]
    first, second, likeness = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    order = np.lexsort((-likeness, second, first))
    keys, best = np.unique(np.stack([first, second], axis=1)[order], axis=0, return_index=True)
    return keys[:, 0], keys[:, 1], likeness[order][best]


def fingerprint(image: np.ndarray) -> np.ndarray:
    """float32 (32, 32) of mean 0 and length 1: the middle band of frequencies of a prepared image.

    Below it lies tone, which re-toning changes; above it what sharpening and compression change. Inversion and cropping
    are undone by the preparation itself.
    """
    small = cv2.resize(image, (_FINGERPRINT, _FINGERPRINT), interpolation=cv2.INTER_AREA).astype(np.float32)
    band = cv2.GaussianBlur(small, (0, 0), 0.7) - cv2.GaussianBlur(small, (0, 0), 2.5)
    band -= band.mean()
    return band / max(float(np.linalg.norm(band)), 1e-6)


def _orientations(prints: np.ndarray) -> Iterator[np.ndarray]:
    for flipped in (prints, prints[:, :, ::-1]):
        for quarter in range(4):
            yield np.rot90(flipped, quarter, axes=(1, 2))


def _near_rows(prints: np.ndarray, turned: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = prints.reshape(len(prints), -1), np.ascontiguousarray(turned).reshape(len(prints), -1)
    found = [(start, one[start : start + 1024] @ other.T) for start in range(0, len(one), 1024)]
    rows = [np.add(np.nonzero(block >= near), [[start], [0]]) for start, block in found]
    likeness = [block[block >= near] for _, block in found]
    first, second = np.concatenate(rows, axis=1)
    return first[first < second], second[first < second], np.concatenate(likeness)[first < second]


def contradicted(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each prepared image has a copy under the other label: one label is wrong, or two heads look alike."""
    first, second, _ = similar_pairs(images, NEAR)
    apart = labels[first] != labels[second]
    return np.isin(np.arange(len(labels)), [first[apart], second[apart]])


def perhaps_tomography(images: np.ndarray) -> np.ndarray:
    """Whether each prepared image looks like CT: a closed white rim of bone round nearly even brain. For review."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31))
    answers = []
    for image in images:
        inside = cv2.erode((image > 25).astype(np.uint8), kernel, borderValue=0).astype(bool)
        bone = np.mean(image[(image > 25) & ~inside] > 230)
        spread = np.subtract(*np.percentile(image[inside], [90, 10])) if inside.sum() > 500 else 255
        answers.append(bone > 0.3 and spread < 60)
    return np.array(answers)


def to_review(scans: Scans, found: np.ndarray) -> pd.DataFrame:
    """What a reader of scans should look at, though it is kept: scan_id, label, source, group and why."""
    reasons = {
        "a copy has the other label": contradicted(scans.images, scans.table["label"].to_numpy()),
        "looks like computed tomography": perhaps_tomography(scans.images),
    }
    named = scans.table[["scan_id", "label", "source"]].assign(group=found)
    return pd.concat([named[rows].assign(why=why) for why, rows in reasons.items()], ignore_index=True)


def summary(scans: Scans, found: np.ndarray) -> dict[str, float]:
    """The audit in numbers."""
    table = scans.table
    return {
        "files": int(table["files"].sum()),
        "distinct files": len(table),
        "groups of copies": len(np.unique(found)),
        "scans in the largest group": int(np.unique(found, return_counts=True)[1].max()),
        "files under both labels": int(table["scan_id"].duplicated().sum()),
        "shortest side in pixels": int(table[["width", "height"]].min().min()),
        "longest side in pixels": int(table[["width", "height"]].max().max()),
    }


SHORTCUTS = ("format, mode and size", "border pixels", "4 x 4 thumbnail")


def shortcut_accuracy(scans: Scans, parts: np.ndarray) -> dict[str, float]:
    """Balanced accuracy on test of classifiers that can't see a tumour: what a model must beat to have seen one."""
    train, test = parts == "train", parts == "test"
    labels = scans.table["label"].to_numpy()
    found = {}
    for name, seen in zip(SHORTCUTS, (_facts(scans), _borders(scans.images), _thumbnails(scans.images)), strict=True):
        forest = RandomForestClassifier(200, class_weight="balanced", random_state=0, min_samples_leaf=2)
        answers = forest.fit(seen[train], labels[train]).predict(seen[test])
        found[name] = float(balanced_accuracy_score(labels[test], answers))
    return found


def _facts(scans: Scans) -> np.ndarray:
    words = pd.get_dummies(scans.table[["format", "mode"]]).to_numpy(float)
    return np.column_stack([words, scans.table[["width", "height"]].to_numpy(float)])


def _borders(images: np.ndarray) -> np.ndarray:
    ring = np.concatenate(
        [images[:, :4].mean(1), images[:, -4:].mean(1), images[:, :, :4].mean(2), images[:, :, -4:].mean(2)], 1
    )
    return ring.reshape(len(images), -1, 8).mean(axis=2)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4)).reshape(len(images), -1)
