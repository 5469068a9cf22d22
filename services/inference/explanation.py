"""The heat map of a prediction, as the answer carries it."""

import base64

import cv2
import numpy as np

from shared.imaging.decoding import encode_png
from shared.imaging.preprocessing import crop_box
from shared.ml.prediction import CropBox, HeatMap

_PICTURE_SIDE = 1024
"""Of the page beside a heat map, in pixels: what a screen shows of it."""


def explain(page: np.ndarray, heat_map: np.ndarray) -> HeatMap:
    """Return the heat map, the page as decoded, uint8 (h, w) or (h, w, 3), and the crop box that the cells divide."""
    image, scale = _at_screen_size(page)
    left, top, side = (value * scale for value in crop_box(page))
    return HeatMap(
        values=heat_map.tolist(),
        crop_box=CropBox(left=left, top=top, side=side),
        image_png=base64.b64encode(encode_png(image)).decode(),
    )


def _at_screen_size(page: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the page, reduced if it is larger than a screen, and the factor that its sides were multiplied by."""
    scale = min(_PICTURE_SIDE / max(page.shape), 1.0)
    if scale == 1:
        return page, scale
    size = (max(round(page.shape[1] * scale), 1), max(round(page.shape[0] * scale), 1))
    return cv2.resize(page, size, interpolation=cv2.INTER_AREA), scale
