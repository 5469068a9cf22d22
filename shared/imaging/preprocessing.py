"""Pixels to the network's input. The only copy: training, Spark and serving all call `prepare`."""

import cv2
import numpy as np

PREPROCESSING_VERSION = "2"
"""Changes whenever `prepare` answers differently. A model runs only with the version it was trained on."""

SIDE = 128
"""Side of the network's input in pixels."""

_SEARCH_SIDE = 128
_MAX_ASPECT = 4


type Box = tuple[slice, slice]
"""Rows and columns of an image that are kept."""


def prepare(pixels: np.ndarray) -> np.ndarray:
    """Return the network's input for a scan: float32 (128, 128, 3) in [0, 1], every value a multiple of 1/255.

    `pixels` is uint8 (h, w) grey or (h, w, 3) RGB of square pixels, at least 32 a side. Never raises on such an image.
    """
    _, _, head = _head(pixels)
    return stacked(stretched(resized(squared(head))))


def crop_box(pixels: np.ndarray) -> tuple[int, int, int]:
    """Return left, top and side of the square that `prepare` shows to the network, in the image's own pixels.

    The square reaches beyond the image where `squared` pads it.
    """
    left, top, head = _head(pixels)
    height, width = head.shape
    side = max(height, width)
    return left - (side - width) // 2, top - (side - height) // 2, side


def _head(pixels: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Left and top of the head in the image, and the head in grey on black, uint8 (h, w)."""
    image = grey(pixels)
    page = page_box(image)
    dark = on_black(upright_tones(image[page]))
    head = head_box(dark)
    return page[1].start + head[1].start, page[0].start + head[0].start, dark[head]


def grey(pixels: np.ndarray) -> np.ndarray:
    """Rec. 601 luma, uint8 (h, w): colour says which site made the file, and nothing about a tumour."""
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def page_box(image: np.ndarray) -> Box:
    """Return where the image lies in the white page round it, so that a margin is not taken for an inverted scan."""
    if min(image[0].min(), image[-1].min(), image[:, 0].min(), image[:, -1].min()) < 240:
        return _whole(image)
    return _bounding_box(image, (image < 240).astype(np.uint8))


def upright_tones(image: np.ndarray) -> np.ndarray:
    """Inverted where the background, seen in the four corners, is bright: air is black in magnetic resonance."""
    return cv2.bitwise_not(image) if _background(image) > max(127.0, cv2.mean(image)[0]) else image


def on_black(image: np.ndarray) -> np.ndarray:
    """With the background's grey taken off, unless it is so bright that tissue must reach into the corners."""
    background = _background(image)
    if background >= 64:
        return image
    darker: np.ndarray = cv2.subtract(image, background)  # type: ignore[call-overload] # a scalar is taken, unsaid
    return darker


def head_box(image: np.ndarray) -> Box:
    """Return where the head lies: what is brighter than the background, without text, rulers and specks beside it."""
    scale = min(_SEARCH_SIDE / max(image.shape), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (3, 3))
    bright = cv2.threshold(small, background_limit(small), 1, cv2.THRESH_BINARY)[1]
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return _bounding_box(image, _large_components(opened))


def squared(image: np.ndarray) -> np.ndarray:
    """Padded with black to a square, the image in its middle, so that the head keeps its shape."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return cv2.copyMakeBorder(image, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=0)


def resized(image: np.ndarray) -> np.ndarray:
    """uint8 (128, 128), averaging over areas, so that no detail is folded into a coarser one."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def stretched(image: np.ndarray) -> np.ndarray:
    """From black to white between the 1st and the 99.5th percentile: scanners agree on no absolute brightness."""
    low, high = _percentile(image, 0.01), _percentile(image, 0.995)
    levels = np.clip((np.arange(256) - low) * (255 / max(high - low, 16)), 0, 255)
    return cv2.LUT(image, np.rint(levels).astype(np.uint8))


def stacked(image: np.ndarray) -> np.ndarray:
    """Three equal channels, as networks trained on photographs expect, in [0, 1]."""
    return cv2.merge([image] * 3).astype(np.float32) / np.float32(255)


def _background(image: np.ndarray) -> float:
    """Grey level of what surrounds the head: the median of the four corners' means."""
    rows, columns = (max(side // 16, 1) for side in image.shape)
    corners = image[:rows, :columns], image[:rows, -columns:], image[-rows:, :columns], image[-rows:, -columns:]
    return float(np.median([cv2.mean(corner)[0] for corner in corners]))


def background_limit(image: np.ndarray) -> float:
    """Grey level that tells head from air: above the background by a tenth of the bright tissue's contrast to it."""
    black = _background(image)
    return black + 0.1 * max(_percentile(image, 0.99) - black, 0)


def _percentile(image: np.ndarray, share: float) -> int:
    """Lowest grey level that this share of the pixels does not exceed."""
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()
    return int(np.searchsorted(np.cumsum(counts), share * image.size))


def _large_components(mask: np.ndarray) -> np.ndarray:
    """The mask (uint8, 0 or 1) without components smaller than a tenth of the largest."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    mask = (areas >= max(areas.max() / 10, 1)).astype(np.uint8)[labels]
    return mask


def _whole(image: np.ndarray) -> Box:
    return slice(0, image.shape[0]), slice(0, image.shape[1])


def _bounding_box(image: np.ndarray, mask: np.ndarray) -> Box:
    """The mask's bounding box (the mask may be smaller than the image), or the whole image if none is credible.

    A box thinner than a quarter of its length, or smaller than a sixteenth of the image, is no head: nothing is cut.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if max(width, height) > _MAX_ASPECT * min(width, height) or 16 * width * height < mask.size:
        return _whole(image)
    across, down = image.shape[1] / mask.shape[1], image.shape[0] / mask.shape[0]
    rows = slice(int(y * down), int(np.ceil((y + height) * down)))
    return rows, slice(int(x * across), int(np.ceil((x + width) * across)))
