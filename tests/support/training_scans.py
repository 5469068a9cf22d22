"""Drawn heads: textured ellipses, another one for every seed."""

import cv2
import numpy as np
import pandas as pd

from services.training.data.scans import Scans, as_bytes
from shared.imaging.preprocessing import prepare


def head(seed: int) -> np.ndarray:
    """Return a textured ellipse, uint8 (256, 256)."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (256, 256)), (0, 0), 9) * 40 + 130
    mask = cv2.ellipse(np.zeros((256, 256)), (128, 128), (int(rng.integers(70, 90)), 105), 0, 0, 360, 1, -1)
    return (np.clip(texture, 50, 255) * mask).astype(np.uint8)


def prepared(*pictures: np.ndarray) -> np.ndarray:
    """Return pictures as prepared images, uint8 (n, 128, 128)."""
    return np.stack([as_bytes(prepare(picture)) for picture in pictures])


def scans(images: np.ndarray, **columns: object) -> Scans:
    """Return scans with these columns, and the others as if nothing were told."""
    text = dict.fromkeys(("type", "person", "person_from", "sequence", "plane", "skull", "format", "mode"), "")
    boxes = dict.fromkeys(("box_x", "box_y", "box_width", "box_height"), 0.0)
    ids = [f"{number:064x}" for number in range(len(images))]
    known = {"scan_id": ids, "source": "here", "width": 128, "height": 128, "files": 1, "label": 0}
    return Scans(pd.DataFrame(known | text | boxes | columns, index=range(len(images))), images)
