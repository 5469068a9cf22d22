"""Drawn heads: pictures of no person, for tests that need a scan's form and not its content."""

import io

import cv2
import numpy as np
from PIL import Image


def head(height: int = 300, width: int = 260, seed: int = 1, lesion: bool = False) -> np.ndarray:
    """Return a textured ellipse on black with room round it, another one for every seed, uint8 (height, width)."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), height / 50)
    texture = 130 + 17 * noise / noise.std()
    share = rng.uniform(0.31, 0.36)
    axes = int(share * width), int(share * height)
    mask = cv2.ellipse(np.zeros((height, width)), (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
    pixels = (np.clip(texture, 60, 220) * mask).astype(np.uint8)
    if lesion:
        cv2.circle(pixels, (int(0.62 * width), int(0.4 * height)), height // 14, 250, -1)
    return pixels


def encoded(pixels: np.ndarray, file_format: str = "JPEG", **options: object) -> bytes:
    """Return the pixels as a file in a format that Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()
