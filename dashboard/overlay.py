"""What is drawn over a scan: window, zoom, heat map, legend."""

import base64
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.ml.prediction import CropBox, PredictionResponse

COLOUR_MAPS = {
    "Inferno": ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)),
    "Viridis": ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)),
    "Reds": ((60, 0, 0), (120, 0, 0), (180, 10, 10), (230, 50, 30), (255, 120, 80), (255, 200, 170)),
    "Cyan": ((0, 30, 40), (0, 80, 100), (0, 130, 150), (0, 180, 200), (90, 220, 230), (200, 255, 255)),
}
"""RGB at six equal steps; Inferno and Viridis (CC0, from Matplotlib) are read alike by colour-blind people."""

EVIDENCE = {"for cancer": 1, "against it": -1}
"""Sign of the heat map's cells that count."""

_SIDE = 640
"""Of a picture to take away, in pixels."""
_HEAT_SIDE = 256
"""Heat is smooth: it is worked out on so many pixels at most, and drawn larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a reader wants to see a scan."""

    level: int = 128
    """Grey level shown as the middle grey."""
    width: int = 256
    """Grey levels from black to white."""
    zoom: float = 1.0
    across: float = 0.5
    """Centre of the zoomed part, 0 (left) to 1 (right)."""
    down: float = 0.5
    opacity: float = 0.6
    colours: str = "Inferno"
    evidence: str = "for cancer"


def is_refused(result: PredictionResponse) -> bool:
    """Return whether the model gives no answer about a tumour: then there is no evidence for one either."""
    return result.prediction == "Not a brain MRI"


def image_of(result: PredictionResponse) -> np.ndarray:
    """Return the page as decoded, uint8 (h, w) grey or (h, w, 3) RGB, at most 1,024 pixels a side.

    Raises ValueError if the answer was asked for without its heat map.
    """
    if result.heat_map is None:
        raise ValueError("the answer has no picture: ask with explain=true")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(result.heat_map.image_png))))


def original(result: PredictionResponse, look: Look) -> np.ndarray:
    """Return the scan, windowed and zoomed: uint8 (h, w) grey or (h, w, 3) RGB."""
    return _scaled(_zoomed(_windowed(image_of(result), look), look))


def overlay(result: PredictionResponse, look: Look) -> np.ndarray:
    """Return the same with the heat map over it, uint8 (h, w, 3): the stronger the evidence the less transparent.

    A refused image stays as it is.
    """
    image = _windowed(_rgb(image_of(result)), look)
    signed = signed_heat(result)
    if signed is None:
        return _scaled(_zoomed(image, look))
    heat = _resized(np.clip(signed * EVIDENCE[look.evidence], 0, 1), image.shape[:2])
    weight = look.opacity * heat[..., np.newaxis]
    blended = image * (1 - weight) + coloured(heat, look.colours) * weight
    return _scaled(_zoomed(np.rint(blended).astype(np.uint8), look))


def signed_heat(result: PredictionResponse) -> np.ndarray | None:
    """Return the evidence over the page, float (h, w) in [-1, 1], at most 256 pixels a side and 0 outside the head.

    Positive is for Cancer; 1 or -1 is the strongest of this page. None for a refused image.
    """
    if result.heat_map is None or is_refused(result):
        return None
    image = image_of(result)
    scale = min(_HEAT_SIDE / max(image.shape[:2]), 1.0)
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    box = result.heat_map.crop_box
    small = CropBox(left=box.left * scale, top=box.top * scale, side=box.side * scale)
    cells = np.asarray(result.heat_map.values)
    signed = heat_over((height, width), cells, small) - heat_over((height, width), -cells, small)
    inside: np.ndarray = signed * head_mask(_resized(_grey(image), (height, width)))
    return inside


def heat_over(shape: tuple[int, int], heat_map: np.ndarray, crop_box: CropBox) -> np.ndarray:
    """Return positive cells laid over an image of this shape, float (h, w) in [0, 1], 0 outside the crop box.

    1 is the strongest evidence of either sign, so that a faint trace stays faint.
    """
    cells = np.clip(heat_map / max(float(np.abs(heat_map).max()), 1e-12), 0, 1).astype(np.float32)
    height, width = shape
    corners = (-crop_box.left, -crop_box.top, width - crop_box.left, height - crop_box.top)
    cells_per_pixel = len(cells) / crop_box.side
    padded = Image.fromarray(np.pad(cells, 1))  # so that the outer cells have nothing to fade into
    box = tuple(value * cells_per_pixel + 1 for value in corners)
    placed = padded.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    heat: np.ndarray = np.clip(np.asarray(placed), 0, 1)
    return heat


def head_mask(grey: np.ndarray) -> np.ndarray:
    """Return where the head is, bool (h, w): what differs from the corners' grey, filled along rows and columns."""
    rows, columns = (max(side // 16, 1) for side in grey.shape)
    corners = grey[:rows, :columns], grey[:rows, -columns:], grey[-rows:, :columns], grey[-rows:, -columns:]
    contrast = np.abs(grey.astype(np.float32) - float(np.median([corner.mean() for corner in corners])))
    smooth = _resized(_resized(contrast, (max(grey.shape[0] // 3, 1), max(grey.shape[1] // 3, 1))), grey.shape)
    tissue = smooth > max(0.1 * float(np.percentile(contrast, 99)), 4)
    mask: np.ndarray = _between(tissue, 0) & _between(tissue, 1)
    return mask


def _between(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return what lies between the first and the last True along an axis."""
    forth = np.maximum.accumulate(mask, axis=axis)
    back = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
    return forth & back


def coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """Return values in [0, 1] in a colour map, uint8 (..., 3)."""
    return table(colours)[np.rint(values * 255).astype(np.uint8)]


@cache
def table(colours: str) -> np.ndarray:
    """Return the colour map's 256 steps, uint8 (256, 3)."""
    anchors = np.asarray(COLOUR_MAPS[colours], dtype=float)
    steps = np.linspace(0, 1, len(anchors))
    channels = [np.interp(np.linspace(0, 1, 256), steps, channel) for channel in anchors.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def captioned(pixels: np.ndarray, lines: list[str]) -> np.ndarray:
    """Return a picture with lines of text in a dark band under it, uint8 (h, w, 3)."""
    picture = Image.fromarray(_rgb(pixels))
    font = ImageFont.load_default(15)
    band = Image.new("RGB", (max(picture.width, _SIDE), picture.height + 22 * len(lines) + 10), (16, 24, 28))
    band.paste(picture, ((band.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(band)
    for place, line in enumerate(lines):
        draw.text((8, picture.height + 6 + 22 * place), line, fill=(230, 238, 241), font=font)
    return np.asarray(band)


def png(pixels: np.ndarray) -> bytes:
    """Return uint8 pixels as a PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., np.newaxis], 3, axis=2) if image.ndim == 2 else image


def _grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L"))


def _windowed(image: np.ndarray, look: Look) -> np.ndarray:
    """Return the image between level - width / 2 (black) and level + width / 2 (white), as viewers of DICOM do."""
    levels = (np.arange(256) - look.level) / look.width + 0.5
    shown: np.ndarray = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)[image]
    return shown


def _zoomed(image: np.ndarray, look: Look) -> np.ndarray:
    height, width = image.shape[:2]
    tall, wide = max(round(height / look.zoom), 1), max(round(width / look.zoom), 1)
    top, left = round((height - tall) * look.down), round((width - wide) * look.across)
    return image[top : top + tall, left : left + wide]


def _scaled(image: np.ndarray) -> np.ndarray:
    scale = _SIDE / max(image.shape[:2])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return values as float32 (h, w) of this shape."""
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
