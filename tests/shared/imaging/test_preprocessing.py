import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.imaging.preprocessing import crop_box, grey, head_box, prepare, resized, stacked, stretched
from tests.support.heads import head


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(32, 90), st.integers(32, 90), st.sampled_from([(), (3,)])).flatmap(
        lambda s: arrays(np.uint8, (s[0], s[1], *s[2]))
    )
)
def test_any_image_becomes_an_input(pixels):
    tensor = prepare(pixels)
    assert tensor.shape == (128, 128, 3)
    assert tensor.dtype == np.float32
    assert 0 <= tensor.min() <= tensor.max() <= 1
    assert np.array_equal(tensor, np.rint(tensor * 255).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("pixels", [np.zeros((32, 32)), np.full((32, 4000), 255), np.full((900, 40, 3), 7)])
def test_images_without_a_head_do_not_fail(pixels):
    assert prepare(pixels.astype(np.uint8)).shape == (128, 128, 3)


def test_the_same_scan_gives_the_same_input():
    assert np.array_equal(prepare(head()), prepare(head()))


def test_grey_and_its_copy_in_three_channels_are_one():
    assert np.array_equal(prepare(head()), prepare(np.dstack([head()] * 3)))


def test_an_inverted_scan_is_turned_back():
    rows, columns = head().any(axis=1), head().any(axis=0)
    cut = head()[rows][:, columns]  # as the white round an inverted scan is cut off before its tones are turned
    assert likeness(prepare(255 - head()), prepare(cut)) > 0.99


def test_a_white_page_round_the_scan_is_cut_off():
    page = cv2.copyMakeBorder(head(), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=255)
    assert likeness(prepare(page), prepare(head())) > 0.99


def test_where_the_head_lies_does_not_matter():
    moved = cv2.copyMakeBorder(head(), 10, 200, 120, 30, cv2.BORDER_CONSTANT, value=0)
    assert likeness(prepare(moved), prepare(head())) > 0.97


def test_letters_beside_the_head_are_cut_off():
    lettered = cv2.putText(head(400, 400), "L 12 cm", (5, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255)
    assert likeness(prepare(lettered), prepare(head(400, 400))) > 0.99


@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_brightness_does_not_matter(gain):
    darker = cv2.convertScaleAbs(head(), alpha=gain)
    assert np.abs(prepare(darker) - prepare(head())).mean() < 0.01


def test_a_grey_background_becomes_black():
    grey = cv2.add(head(), 30)
    assert np.abs(prepare(grey) - prepare(head())).mean() < 0.03


def test_the_head_keeps_its_shape():
    filled = prepare(head(300, 150))[..., 0] > 0
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2, rel=0.1)


def test_grey_runs_from_the_first_to_the_995th_of_a_thousand_pixels() -> None:
    image = np.full((100, 100), 60, np.uint8)
    image.flat[:50], image.flat[50:250] = 0, 20  # 0.5% outliers, and the 1st percentile
    image.flat[-250:-49], image.flat[-49:] = 220, 255  # up to the 99.5th percentile, and 0.49% outliers
    found = stretched(image)
    assert [int(found[image == level][0]) for level in (0, 20, 60, 220, 255)] == [0, 0, 51, 255, 255]


def test_noise_of_a_few_grey_levels_is_not_blown_up() -> None:
    image = np.tile(np.array([100, 104], np.uint8), (40, 20))
    assert set(stretched(image).ravel()) == {0, 64}


def test_colour_is_weighed_as_rec_601_says() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert grey(colours).ravel().tolist() == [76, 150, 29]


def test_crop_box_is_the_square_that_is_shown() -> None:
    """Of a head that is narrower than high, and of one that is wider, each off the middle."""
    for shape in ((300, 200), (200, 300)):
        placed = np.zeros((500, 520), np.uint8)
        placed[40 : 40 + shape[0], 150 : 150 + shape[1]] = head(*shape)
        left, top, side = crop_box(placed)
        square = np.zeros((side, side), np.uint8)
        rows, columns = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
        shown = placed[rows, columns]
        square[max(-top, 0) : max(-top, 0) + shown.shape[0], max(-left, 0) : max(-left, 0) + shown.shape[1]] = shown
        assert likeness(stacked(stretched(resized(square))), prepare(placed)) > 0.999


@pytest.mark.parametrize("thickness", [10, 60], ids=["too small", "too long for its thickness"])
def test_ruler_of_the_pages_length_is_no_head(thickness: int) -> None:
    page = np.zeros((400, 400), np.uint8)
    page[170 : 170 + thickness] = 200
    assert head_box(page) == (slice(0, 400), slice(0, 400))


def test_dim_scalp_belongs_to_the_head() -> None:
    page = np.zeros((256, 256), np.uint8)
    cv2.circle(page, (128, 128), 100, 45, -1)
    cv2.circle(page, (128, 128), 84, 200, -1)
    rows, columns = head_box(page)
    assert rows.stop - rows.start > 190
    assert columns.stop - columns.start > 190
