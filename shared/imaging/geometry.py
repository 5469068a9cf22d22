"""Square pixels, and the right way up."""

import numpy as np
from PIL import Image

from shared.imaging.intensity import Pixels

_LARGEST_ASPECT = 4.0
"""Pixels longer than this are a writer's mistake."""

_SAME = 0.01
"""Sides of a pixel that differ by less than this share are equal."""


def aspect_of(height: float | None, width: float | None) -> float:
    """Return height by width of a pixel; 1 if either is unknown, or they are equal within 1%, or beyond belief."""
    if not height or not width or not height > 0 or not width > 0:
        return 1.0
    aspect = height / width
    credible = 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT and abs(aspect - 1) > _SAME
    return aspect if credible else 1.0


def squared_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return width and height of the page with square pixels: the coarser axis is drawn out, to lose no detail."""
    return (width, round(height * aspect)) if aspect >= 1 else (round(width / aspect), height)


def square_pixels(pixels: Pixels, aspect: float) -> Pixels:
    """Return the page with square pixels, given height by width of its own.

    Each new pixel is the mean of the area that it covers, so that no value appears that was not there.
    """
    if aspect == 1:
        return pixels
    height, width = pixels.shape[:2]
    size = squared_size(width, height, aspect)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return the page turned and mirrored as EXIF's and TIFF's orientation (1 to 8) says; any other number is 1."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
