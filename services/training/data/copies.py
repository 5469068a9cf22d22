"""Copies of one picture, however flipped or re-toned, and the groups that a split must keep whole."""

from collections.abc import Iterator

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR = 0.87
"""Correlation of two fingerprints from which two scans stay on one side of a split. It joins unlike people too."""

SAME = 0.95
"""Correlation from which two scans are copies of one picture: what is drawn less often when training."""

_FINGERPRINT = 32


def split_groups(images: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Return a group number for each prepared image, uint8 (n, 128, 128): all that must stay on one side of a split.

    Chains of scans that are `NEAR`, and of one person. Scans whose person is told, or whose source has unknown people
    only, are joined by person and not by likeness: stripped or registered heads of different people look alike.
    """
    by_likeness = ~table["person_from"].isin(["told", "source"]).to_numpy()
    first, second, _ = similar_pairs(images, NEAR, by_likeness)
    return _joined(first, second, table["person"].to_numpy(str))


def copies(images: np.ndarray) -> np.ndarray:
    """Return a group number for each prepared image: chains of copies of one picture (`SAME`)."""
    first, second, _ = similar_pairs(images, SAME)
    return _joined(first, second, np.full(len(images), ""))


def _joined(first: np.ndarray, second: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Connected components of pairs and of rows with the same name, where it is not empty."""
    order = np.argsort(names, kind="stable")
    order = order[names[order] != ""]
    same = names[order[1:]] == names[order[:-1]]
    first = np.concatenate([first, order[:-1][same]])
    second = np.concatenate([second, order[1:][same]])
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    return connected_components(links, directed=False)[1]


def similar_pairs(
    images: np.ndarray, near: float, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs (i < j) whose fingerprints correlate at least so much in one of eight orientations, and how much.

    `among` is a mask of the images that count.
    """
    rows = np.arange(len(images)) if among is None else np.flatnonzero(among)
    if len(rows) == 0:
        return rows, rows, np.zeros(0)
    prints = np.stack([fingerprint(image) for image in images[rows]])
    pairs = [_near_rows(prints, turned, near) for turned in _orientations(prints)]
    first, second, likeness = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    order = np.lexsort((-likeness, second, first))
    keys, best = np.unique(np.stack([first, second], axis=1)[order], axis=0, return_index=True)
    return rows[keys[:, 0]], rows[keys[:, 1]], likeness[order][best]


def fingerprint(image: np.ndarray) -> np.ndarray:
    """Return float32 (32, 32) of mean 0 and length 1: the middle band of frequencies of a prepared image.

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
