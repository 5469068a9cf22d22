"""What is drawn over a scan: window, zoom, heat map, legend."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dashboard.inference_client import CropBox, PredictionResult

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
"""Of a picture as sent to the browser, in pixels."""


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


def original(result: PredictionResult, look: Look) -> np.ndarray:
    """uint8 (h, w) grey or (h, w, 3) RGB: the scan, windowed and zoomed."""
    return _scaled(_zoomed(_windowed(result.image, look), look))


def overlay(result: PredictionResult, look: Look) -> np.ndarray:
    """uint8 (h, w, 3): the same with the heat map over it, the stronger the evidence the less transparent."""
    image = _windowed(_rgb(result.image), look)
    heat = heat_over(image.shape[:2], np.asarray(result.heat_map) * EVIDENCE[look.evidence], result.crop_box)
    weight = look.opacity * heat[..., np.newaxis]
    blended = image * (1 - weight) + coloured(heat, look.colours) * weight
    return _scaled(_zoomed(np.rint(blended).astype(np.uint8), look))


def heat_over(shape: tuple[int, int], heat_map: np.ndarray, crop_box: CropBox) -> np.ndarray:
    """float (h, w) in [0, 1]: positive cells laid over an image of this shape, 0 outside the crop box.

    1 is the strongest evidence of either sign, so that a faint trace stays faint.
    """
    cells = np.clip(heat_map / max(float(np.abs(heat_map).max()), 1e-12), 0, 1).astype(np.float32)
    height, width = shape
    corners = (-crop_box.left, -crop_box.top, width - crop_box.left, height - crop_box.top)
    cells_a_pixel = len(cells) / crop_box.side
    padded = Image.fromarray(np.pad(cells, 1))  # so that the outer cells have nothing to fade into
    box = tuple(value * cells_a_pixel + 1 for value in corners)
    placed = padded.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(placed), 0, 1)


def coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """uint8 (..., 3): values in [0, 1] in a colour map."""
    anchors = np.asarray(COLOUR_MAPS[colours], dtype=float)
    steps = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, channel) for channel in anchors.T], axis=-1)
    return np.rint(table).astype(np.uint8)[np.rint(values * 255).astype(np.uint8)]


def legend(colours: str) -> np.ndarray:
    """uint8 (12, 256, 3): the colour map from no evidence to the strongest."""
    return coloured(np.tile(np.linspace(0, 1, 256), (12, 1)), colours)


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 pixels."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., np.newaxis], 3, axis=2) if image.ndim == 2 else image


def _windowed(image: np.ndarray, look: Look) -> np.ndarray:
    """Linear between level - width / 2 (black) and level + width / 2 (white), as viewers of DICOM do."""
    levels = (np.arange(256) - look.level) / look.width + 0.5
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)[image]


def _zoomed(image: np.ndarray, look: Look) -> np.ndarray:
    height, width = image.shape[:2]
    tall, wide = max(round(height / look.zoom), 1), max(round(width / look.zoom), 1)
    top, left = round((height - tall) * look.down), round((width - wide) * look.across)
    return image[top : top + tall, left : left + wide]


def _scaled(image: np.ndarray) -> np.ndarray:
    scale = _SIDE / max(image.shape)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
