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
    if _is_short(values):
        levels = _levels(_every(values.dtype), low, high)
        pixels: Pixels = levels[values.view(f"u{values.itemsize}")]
    else:
        pixels = np.empty(values.shape, np.uint8)
        rows = max(_BLOCK_PIXELS // values.shape[1], 1)
        for top in range(0, len(values), rows):
            pixels[top : top + rows] = _levels(values[top : top + rows], low, high)
    return pixels if hidden is None else background(pixels, hidden)


def _levels(values: Values, low: float, high: float) -> Pixels:
    gain = 255 / (high - low) if high != low else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        levels: Pixels = np.rint(np.clip(np.nan_to_num((values.astype(np.float64) - low) * gain), 0, 255)).astype(
            np.uint8
        )
    return levels


def _is_short(values: Values) -> bool:
    """Whether there are so few different values that each is scaled, or counted, once."""
    return values.dtype.kind in "iu" and values.itemsize == 2 and values.dtype.isnative and values.size > 1 << 14


def _every(kind: np.dtype[Any]) -> Values:
    """Every value of a 16-bit type, in the order of their unsigned bit patterns."""
    return np.arange(1 << 16, dtype=np.uint16).view(kind)


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
    low, high = _percentiles_of_short(finite) if _is_short(finite) else np.percentile(finite, (0.5, 99.5))
    return (float(low), float(high)) if low < high else (float(finite.min()), float(finite.max()))


def _percentiles_of_short(values: Values) -> tuple[float, float]:
    """The 0.5th and the 99.5th percentile as NumPy has them, from counts: 16 bits need no sorting."""
    smallest = int(values.min())
    below = np.cumsum(np.bincount(values.ravel().astype(np.int32) - smallest))

    def percentile(share: float) -> float:
        place = (values.size - 1) * share
        before, after = (float(np.searchsorted(below, at, "right")) for at in (np.floor(place), np.ceil(place)))
        rest = float(place - np.floor(place))
        return smallest + (before + (after - before) * rest if rest < 0.5 else after - (after - before) * (1 - rest))

    return percentile(0.005), percentile(0.995)


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
