"""Text burnt into pixels beside the head: strokes in a row propose a line, a recogniser of characters confirms it."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple

import cv2
import numpy as np

from shared.imaging.intensity import Mask, Pixels
from shared.imaging.preprocessing import background_limit, grey, upright_tones

_LONG_SIDE = 1536
"""Pixels: larger pages are shrunk to this, which bounds time and memory."""
_THINNER = 15
"""Pixels: what is brighter than its surroundings and thinner than this is a stroke."""
_CONTRASTS = (20, 72)
"""Grey levels that a stroke stands out: of faint text on plain air, and of bright text on a restless one."""
_GAPS = (9, 17, 33)
"""Pixels between letters or words of a line, for three sizes of type."""
_MOST_LINES = 10
"""Lines that are recognised on one page, the largest first."""
_FEWEST_CHARACTERS, _LEAST_CONFIDENCE = 3, 0.65
"""Two letters are a side or a plane, and what folds of skin are taken for."""
_MARGIN = 4
_LOADING = Lock()


class Line(NamedTuple):
    """A line of text, in pixels of its page."""

    left: int
    top: int
    width: int
    height: int
    upright: bool
    """Whether it runs from top to bottom or from bottom to top."""

    def scaled(self, scale: float) -> "Line":
        """Return the line on a page that is larger by a factor."""
        left, top, width, height = (round(scale * number) for number in self[:4])
        return Line(left, top, width, height, self.upright)

    def moved(self, right: int, down: int) -> "Line":
        """Return the line on a page of which the line's own is a part."""
        return self._replace(left=self.left + right, top=self.top + down)


def text_lines(pixels: Pixels) -> list[Line]:
    """Return the lines of text beside the head of a page: uint8 (h, w) or (h, w, 3).

    Three letters or digits are the least. A page without strokes in a row, as nearly all are, is decided without the
    recogniser, which is loaded at the first proposal.
    """
    image, scale = looked_at(pixels)
    lines = [line for line in proposals(image) if _is_text(image, line)]
    return [line.scaled(scale) for line in lines]


def masked(pixels: Pixels, lines: Sequence[Line]) -> Pixels:
    """Return the page with its lines of text painted over with the grey or colour that lies round each."""
    page = pixels.copy()
    for line in lines:
        part = _around(page, line)
        edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        part[:] = np.median(edge, axis=0).astype(np.uint8)
    return page


def looked_at(pixels: Pixels) -> tuple[Pixels, float]:
    """Return a page in grey with bright strokes, not larger than is needed, and how much larger the page is."""
    image = upright_tones(grey(pixels)).astype(np.uint8)
    scale = max(image.shape) / _LONG_SIDE
    if scale <= 1:
        return image, 1.0
    size = (max(round(image.shape[1] / scale), 1), max(round(image.shape[0] / scale), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8), scale


def proposals(image: Pixels) -> list[Line]:
    """Return rows of strokes outside the head that may be text, the largest first, none inside another."""
    without = cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones((_THINNER, _THINNER), np.uint8)).astype(np.uint8)
    strokes = image - without
    strokes[_head(without)] = 0
    found: set[Line] = set()
    for contrast in _CONTRASTS:
        bright = cv2.threshold(strokes, contrast - 1, 1, cv2.THRESH_BINARY)[1].astype(np.uint8)
        left, top, window = _window(bright)
        letters = _letters(window)
        if letters is not None:
            level = _rows(letters)
            upright = (Line(y, x, height, width, True) for x, y, width, height, _ in _rows(letters.T.copy()))
            found.update(line.moved(left, top) for line in chain(level, upright))
    kept: list[Line] = []
    for line in sorted(found, key=lambda line: line.width * line.height, reverse=True):
        if len(kept) < _MOST_LINES and not any(_inside(line, other) for other in kept):
            kept.append(line)
    return kept


def _head(image: Pixels) -> Mask:
    """Whether a pixel lies in the hull of what is large in an image without its strokes: the head, bool (h, w)."""
    scale = min(128 / max(image.shape), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (3, 3))
    bright = cv2.threshold(small, background_limit(small), 1, cv2.THRESH_BINARY)[1]
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    hull = np.zeros_like(opened)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if contours:
        cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    hull = cv2.dilate(hull, np.ones((9, 9), np.uint8))
    return cv2.resize(hull, image.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _window(bright: Pixels) -> tuple[int, int, Pixels]:
    """Left, top and the part of an image in which all strokes lie, with the air round them that joining them needs."""
    left, top, width, height = cv2.boundingRect(bright)
    air = max(_GAPS)
    right, bottom = left + width + air, top + height + air
    left, top = max(left - air, 0), max(top - air, 0)
    return left, top, bright[top:bottom, left:right]


def _letters(bright: Pixels) -> Pixels | None:
    """Strokes that are as large as letters, 0 or 1; None if there are too few for a line."""
    if cv2.countNonZero(bright) < 4 * _FEWEST_CHARACTERS:
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
    side = stats[:, 2:4].max(axis=1)
    letters = (side >= 4) & (side <= 64) & (stats[:, cv2.CC_STAT_AREA] >= 4)
    letters[0] = False
    return letters.astype(np.uint8)[labels] if letters.sum() >= 2 else None


def _rows(letters: Pixels) -> Iterator[Line]:
    """Letters that stand beside each other."""
    for gap in _GAPS:
        joined = cv2.morphologyEx(letters, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8)).astype(np.uint8)
        for line in _boxes(joined):
            if 5 <= line.height <= 64 and line.width >= 1.8 * line.height and gap <= 3.5 * line.height:
                part = letters[line.top : line.top + line.height, line.left : line.left + line.width]
                if 0.06 < part.mean() < 0.7 and _strokes_across(part) >= 4 and _is_full_height(part):
                    yield line


def _boxes(image: Pixels) -> Iterator[Line]:
    """The box of each connected part, found along its outline, an eighth of the time of labelling every pixel."""
    outlines, nesting = cv2.findContours(image, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for outline, place in zip(outlines, nesting[0] if outlines else (), strict=True):
        if place[3] < 0:  # not the outline of a hole
            left, top, width, height = cv2.boundingRect(outline)
            yield Line(left, top, width, height, False)


def _strokes_across(part: Pixels) -> int:
    """The most strokes that one row of pixels meets."""
    begins = np.diff(part.astype(np.int8), axis=1, prepend=0) == 1
    return int(begins.sum(axis=1).max())


def _is_full_height(part: Pixels) -> bool:
    """Whether strokes of most inked columns reach over half of the line, as letters do and specks do not."""
    inked = part[:, part.any(axis=0)]
    reach = len(part) - inked.argmax(axis=0) - inked[::-1].argmax(axis=0)
    return bool((2 * reach >= len(part)).mean() >= 0.4)


def _inside(line: Line, other: Line) -> bool:
    return (
        line.upright == other.upright
        and other.left <= line.left
        and other.top <= line.top
        and line.left + line.width <= other.left + other.width
        and line.top + line.height <= other.top + other.height
    )


def _around(image: Pixels, line: Line) -> Pixels:
    """The part of an image in which a line lies, with a margin."""
    rows = slice(max(line.top - _MARGIN, 0), line.top + line.height + _MARGIN)
    return image[rows, max(line.left - _MARGIN, 0) : line.left + line.width + _MARGIN]


def _is_text(image: Pixels, line: Line) -> bool:
    part = cv2.normalize(_around(image, line), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    return any(_reads(np.rot90(part, turns)) for turns in ((1, 3) if line.upright else (0,)))


def _reads(part: Pixels) -> bool:
    found = _recogniser()(cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_GRAY2BGR), use_det=False, use_cls=False)
    return any(
        score >= _LEAST_CONFIDENCE and sum(map(str.isalnum, text)) >= _FEWEST_CHARACTERS
        for text, score in zip(found.txts or (), found.scores or (), strict=True)
    )


def _recogniser() -> Any:  # noqa: ANN401 - ships no types
    """The process's one recogniser, however many pages ask for it at first together."""
    with _LOADING:
        return _loaded_recogniser()


@cache
def _loaded_recogniser() -> Any:  # noqa: ANN401 - ships no types
    """The recogniser of PP-OCR in RapidOCR's wheel, on one thread: 100 MB or so, and seldom needed."""
    from rapidocr import RapidOCR  # noqa: PLC0415 - slow to load

    one = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "critical", **one})
