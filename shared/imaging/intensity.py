"""Values of any depth to 0..255."""

from typing import Any

import numpy as np

type Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""One page: uint8 (height, width) grey or (height, width, 3) RGB."""

type Values = np.ndarray[tuple[int, ...], np.dtype[Any]]
"""What a decoder returns: numbers of any type, of the shape of Pixels."""

type Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool]]

_BLOCK_PIXELS = 1 << 20


def scaled(values: Values, limits: tuple[float, float] | None = None, hidden: Mask | None = None) -> Pixels:
    """Return uint8 of deep grey values (h, w): 0 at the first limit, 255 at the second, linear between, clipped beyond.

    Without limits, `usual_range` of what is not `hidden`. Hidden values and not-a-number become black.
    """
    low, high = limits or usual_range(values if hidden is None else values[~hidden])
    gain = 255 / (high - low) if high != low else 0.0
    pixels = np.empty(values.shape, np.uint8)
    rows = max(_BLOCK_PIXELS // values.shape[1], 1)
    with np.errstate(invalid="ignore", over="ignore"):
        for top in range(0, len(values), rows):
            block = (values[top : top + rows].astype(np.float64) - low) * gain
            pixels[top : top + rows] = np.rint(np.clip(np.nan_to_num(block), 0, 255))
    return pixels if hidden is None else background(pixels, hidden)


def background(pixels: Pixels, hidden: Mask) -> Pixels:
    """Return the pixels with black where they are hidden."""
    return np.where(hidden, np.uint8(0), pixels)


def usual_range(values: Values) -> tuple[float, float]:
    """Return the grey values to show as black and as white.

    The 0.5th and the 99.5th percentile of the finite values, as MedSAM takes for magnetic resonance (Ma et al., Nature
    Communications 15:654, 2024), or their extremes if these two are equal: a few bright vessels or dead pixels leave
    the tissue its contrast.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, (0.5, 99.5))
    return (float(low), float(high)) if low < high else (float(finite.min()), float(finite.max()))


def eight_bit(values: Values) -> Pixels:
    """Return uint8 of deep colour (h, w, 3): the upper eight of the bits in use, 16, or at most 12 if that is enough.

    Grey that was written as three equal channels is grey, and `scaled`.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        first = values[..., :1]
        if (values == first).all():
            return scaled(values[..., 0])
        bits = int(values.max()).bit_length()
        pixels: Pixels = (values >> (max(bits - 8, 0) if bits <= 12 else 8)).astype(np.uint8)
        return pixels
    return np.dstack([scaled(values[..., channel], usual_range(values)) for channel in range(values.shape[2])])


def over_black(colour: Pixels, alpha: Values) -> Pixels:
    """Return colour or grey laid on black by its alpha, which is ignored if it is 0 everywhere: nobody means that."""
    if not alpha.any():
        return colour
    opacity = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    laid: Pixels = np.rint(colour * (opacity if colour.ndim == 2 else opacity[..., np.newaxis])).astype(np.uint8)
    return laid
