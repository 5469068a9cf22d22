"""What the data is before anything learns from it: copies, contradictions, and what a shortcut alone would score."""

from collections.abc import Iterator

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR = 0.87
"""Correlation of two fingerprints from which two images are copies; the report shows pairs on both sides of it."""

_FINGERPRINT = 32


def groups(images: np.ndarray, near: float = NEAR) -> np.ndarray:
    """Group number of each prepared image, uint8 (n, 128, 128): chains of copies, however flipped, turned or re-toned."""
    first, second, _ = similar_pairs(images, near)
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
    rows = [np.stack(np.nonzero(block >= near)) + [[start], [0]] for start, block in found]
    likeness = [block[block >= near] for _, block in found]
    first, second = np.concatenate(rows, axis=1)
    return first[first < second], second[first < second], np.concatenate(likeness)[first < second]
