"""Stripped heads within the skulls of others: what a scanner sends, imitated where public tumours are stripped."""

import cv2
import numpy as np

from services.training.data.scans import Scans
from shared.imaging.preprocessing import SIDE

TRIED = 12
"""Skulls that are tried before a head stays out: about one in five fits."""
ALIKE = 0.85
"""Least overlap (Jaccard index) of the brain and the inside of the skull, stretched to the same height and width."""
_MARGIN = 32


def in_skulls(scans: Scans, others: Scans) -> list[np.ndarray | None]:
    """Return each stripped head, uint8 (128, 128), within the skull of a healthy one of `others`; None for all else.

    The skull is of the same sequence if there is one (T1 with contrast: of a T1), else of any. Heads that no skull fits
    stay out.
    """
    rng = np.random.default_rng(0)
    table = others.table
    given = (table["label"] == 0) & (table["skull"] == "skull")
    found: list[np.ndarray | None] = []
    for image, skull, sequence in zip(scans.images, scans.table["skull"], scans.table["sequence"], strict=True):
        if skull != "stripped" or not given.any():
            found.append(None)
            continue
        alike = given & (table["sequence"] == sequence.removesuffix("c"))
        tried = rng.choice(np.flatnonzero(alike if alike.any() else given), TRIED)
        dressed = (within_skull_of(image, others.images[donor], rng) for donor in tried)
        found.append(next((one for one in dressed if one is not None), None))
    return found


def within_skull_of(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return a stripped head within the skull and scalp of another head, uint8 (128, 128); None if they do not fit.

    The brain is stretched to fill the skull; what it leaves free is fluid, dark or bright; the scalp is as bright
    beside the tissue as chance has it.
    """
    ring = 2 * int(rng.integers(6, 11)) + 1
    brain = _closed(image, 8)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    inner = cv2.erode(_closed(other, 20), _ellipse(ring))[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    x, y, width, height = cv2.boundingRect(brain)
    to_x, to_y, to_width, to_height = cv2.boundingRect(inner)
    if min(width, height, to_width, to_height) < SIDE // 3 or not np.any(other * inner > 20):
        return None
    across, down = to_width / width, to_height / height
    matrix = np.array([[across, 0, to_x - across * x], [0, down, to_y - down * y]])
    stretched, free = cv2.warpAffine(brain, matrix, (SIDE, SIDE)) > 0, inner > 0
    overlap = np.count_nonzero(stretched & free) / np.count_nonzero(stretched | free)
    if overlap < ALIKE or not 0.8 < across / down < 1.25:
        return None
    tissue, usual = float(np.median(image[image > 8])), float(np.median(other[other * inner > 20]))
    scalp = other * np.exp(rng.uniform(-0.5, 0.5)) * tissue / usual
    fluid = tissue * (rng.uniform(0, 0.35) if rng.random() < 0.7 else rng.uniform(0.8, 1.6))
    moved = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float32)
    share = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 0.8)
    new = share * np.where(stretched, moved, fluid) + (1 - share) * scalp
    return np.clip(new, 0, 255).astype(np.uint8)


def _closed(image: np.ndarray, level: int) -> np.ndarray:
    """What is brighter than `level`, its hollows filled, with black round it, uint8, 0 or 1."""
    bright = np.pad((image > level).astype(np.uint8), _MARGIN)
    return cv2.morphologyEx(bright, cv2.MORPH_CLOSE, _ellipse(31))


def _ellipse(side: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
