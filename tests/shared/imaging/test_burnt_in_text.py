"""Text beside the head is found, whatever its type; a head without text is none."""

import random

import numpy as np
import pytest

from shared.imaging import burnt_in_text
from shared.imaging.burnt_in_text import masked, text_lines
from tests.support.annotations import CONTRASTS, FONTS, SIZES, Annotation, annotated
from tests.support.heads import head


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("upright", [False, True], ids=["level", "upright"])
def test_text_of_any_type_is_found_and_covered(font: str, upright: bool) -> None:
    number = FONTS.index(font)
    annotation = Annotation("DOE^JANE 4711", font, SIZES[1 + number % 4], CONTRASTS[1 + number % 3], upright)
    page, ink = annotated(head(420, 400, seed=number), annotation, random.Random(number))
    lines = text_lines(page)
    assert lines
    assert np.abs(masked(page, lines)[ink].astype(int) - page[0, 0]).max() < 12


def test_text_on_a_coloured_page_is_found_and_painted_in_its_colour() -> None:
    page, _ = annotated(head(420, 400), Annotation("DOE^JANE", "DejaVuSans", 18, 200, False), random.Random(1))
    colour = np.dstack([page, page, page // 2])
    hidden = masked(colour, text_lines(colour))
    assert hidden.shape == colour.shape
    assert not text_lines(hidden)


@pytest.mark.parametrize("seed", range(5))
def test_head_without_text_is_decided_without_the_recogniser(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burnt_in_text, "_recogniser", None)  # calling it would fail
    assert text_lines(head(seed=seed)) == []


def test_text_on_a_large_page_is_found_where_it_lies() -> None:
    page, ink = annotated(head(420, 400), Annotation("DOE^JANE 4711", "DejaVuSans", 18, 200, False), random.Random(1))
    large = page.repeat(6, axis=0).repeat(6, axis=1)
    changed = masked(large, text_lines(large)) != large
    assert changed[ink.repeat(6, axis=0).repeat(6, axis=1)].mean() > 0.9


def test_side_marker_is_no_text() -> None:
    page, _ = annotated(head(420, 400), Annotation("R", "DejaVuSans", 24, 200, False), random.Random(2))
    assert text_lines(page) == []


@pytest.mark.parametrize("size", [(32, 32), (33, 900), (1500, 40)])
def test_page_of_any_shape_is_looked_at(size: tuple[int, int]) -> None:
    assert text_lines(np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)) == []
