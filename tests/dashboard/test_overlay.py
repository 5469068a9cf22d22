"""What is drawn over a scan lies where the network looked."""

import io

import numpy as np
import pytest
from PIL import Image

from dashboard import overlay
from dashboard.inference_client import CropBox, PredictionResult
from dashboard.overlay import Look


def result_of(image: np.ndarray, heat_map: np.ndarray, crop_box: CropBox) -> PredictionResult:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return PredictionResult(
        scan_id="0" * 64,
        prediction="Cancer",
        probability=0.9,
        threshold=0.5,
        types={"glioma": 1.0},
        model_version="1",
        timings_ms={"network": 1.0},
        heat_map=heat_map.tolist(),
        crop_box=crop_box,
        image_png=content.getvalue(),
    )


@pytest.fixture
def corner() -> PredictionResult:
    """A grey image of 200 x 100 whose crop box is its right half, with evidence in the box's upper left cell."""
    cells = np.zeros((16, 16))
    cells[0, 0], cells[15, 15] = 1.0, -0.5
    return result_of(np.full((100, 200), 100, np.uint8), cells, CropBox(left=100, top=0, side=100))


def assert_same(coloured: np.ndarray, grey: np.ndarray) -> None:
    """RGB and grey pixels that look alike."""
    assert np.array_equal(coloured, np.repeat(grey[..., np.newaxis], 3, axis=2))


def test_heat_lies_in_its_cell_and_nowhere_else(corner: PredictionResult) -> None:
    heat = overlay.heat_over((100, 200), np.asarray(corner.heat_map), corner.crop_box)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 0 <= row < 7
    assert 100 <= column < 107
    assert heat[:, :90].max() == 0
    assert heat[20:, 120:].max() == 0


def test_evidence_against_is_shown_by_its_own_sign(corner: PredictionResult) -> None:
    heat = overlay.heat_over((100, 200), -np.asarray(corner.heat_map), corner.crop_box)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row > 93
    assert column > 193
    assert heat.max() == pytest.approx(0.5, abs=0.1)


def test_a_crop_box_beyond_the_image_is_cut(corner: PredictionResult) -> None:
    heat = overlay.heat_over((50, 50), np.ones((16, 16)), CropBox(left=-25, top=-25, side=100))
    assert heat.shape == (50, 50)
    assert heat.min() > 0.99


def test_without_opacity_the_overlay_is_the_scan(corner: PredictionResult) -> None:
    look = Look(opacity=0.0)
    assert_same(overlay.overlay(corner, look), overlay.original(corner, look))


def test_no_evidence_draws_nothing() -> None:
    blank = result_of(np.full((64, 64), 80, np.uint8), np.zeros((16, 16)), CropBox(left=0, top=0, side=64))
    assert_same(overlay.overlay(blank, Look()), overlay.original(blank, Look()))


def test_a_window_spreads_the_greys_it_names() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    shown = overlay.original(
        result_of(ramp, np.zeros((16, 16)), CropBox(left=0, top=0, side=64)), Look(level=100, width=50)
    )
    line = shown[shown.shape[0] // 2]
    assert line[round(74 / 256 * len(line))] <= 5
    assert line[round(126 / 256 * len(line))] >= 250


def test_zoom_shows_the_chosen_part() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[75:, 75:] = 255
    shown = overlay.original(
        result_of(image, np.zeros((16, 16)), CropBox(left=0, top=0, side=100)), Look(zoom=4, across=1, down=1)
    )
    assert shown.min() > 250


@pytest.mark.parametrize("colours", overlay.COLOUR_MAPS)
def test_colour_maps_brighten_from_weak_to_strong(colours: str) -> None:
    luma = overlay.coloured(np.linspace(0, 1, 64), colours) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luma) > -1).all()
    assert luma[-1] - luma[0] > 100
