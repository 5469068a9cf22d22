"""Text as scanners and workstations burn it into pictures, beside the head."""

import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.imaging.preprocessing import background_limit, grey, upright_tones

_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "STIXGeneralBol")
FONTS += ("cmss10", "cmtt10")
SIZES = (10, 12, 14, 18, 24, 32)
CONTRASTS = (50, 80, 120, 200)
TEXTS = ("DOE^JANE", "Hypatia A.", "1957-03-12", "ID 4711023", "ST. MARY HOSP", "MRN:884213", "F 064Y", "Smith, John")


@dataclass(frozen=True)
class Annotation:
    """A line of text on a page."""

    text: str
    font: str
    size: int
    contrast: int
    """Grey levels above what lies under it."""
    upright: bool

    def drawn(self) -> np.ndarray:
        """Return its ink, uint8 (h, w)."""
        font = ImageFont.truetype(str(_FOLDER / f"{self.font}.ttf"), self.size)
        left, top, right, bottom = font.getbbox(self.text)
        ink = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
        ImageDraw.Draw(ink).text((1 - left, 1 - top), self.text, fill=255, font=font)
        return np.rot90(np.asarray(ink)) if self.upright else np.asarray(ink)


def any_annotation(rng: random.Random) -> Annotation:
    """Return an annotation of any kind."""
    kinds = (TEXTS, FONTS, SIZES, CONTRASTS, (False, True))
    return Annotation(*(rng.choice(kind) for kind in kinds))


def annotated(page: np.ndarray, annotation: Annotation, rng: random.Random) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a page with the text at some place beside the head, and where its ink lies; None if there is no room."""
    image, ink = grey(page), annotation.drawn()
    room, (height, width) = _beside_the_head(upright_tones(image)), ink.shape
    for _ in range(200):
        if height >= image.shape[0] or width >= image.shape[1]:
            return None
        top, left = rng.randrange(image.shape[0] - height), rng.randrange(image.shape[1] - width)
        if room[top : top + height, left : left + width].all():
            where = np.zeros(image.shape)
            where[top : top + height, left : left + width] = ink / 255
            drawn = image + np.where(image < 128, 1, -1) * where * annotation.contrast
            return np.clip(drawn, 0, 255).astype(np.uint8), where > 0
    return None


def _beside_the_head(image: np.ndarray) -> np.ndarray:
    """Whether a pixel of a page without text lies outside the hull of all that is brighter than air."""
    scale = 128 / max(image.shape)
    small = cv2.blur(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), (3, 3))
    bright = (small > background_limit(small)).astype(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    hull = np.zeros_like(opened)
    if opened.any():
        cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(opened)), 1)
    hull = cv2.dilate(hull, np.ones((7, 7), np.uint8))
    return cv2.resize(hull, image.shape[::-1], interpolation=cv2.INTER_NEAREST) == 0
