"""What is drawn over a scan lies where the network looked."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dashboard import overlay
from dashboard.overlay import Look
from shared.ml.prediction import CropBox, HeatMap, PredictionResponse


def result_of(
    image: np.ndarray, heat_map: np.ndarray, crop_box: CropBox, prediction: str = "Cancer", **fields: object
) -> PredictionResponse:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    values = {
        "scan_id": "0" * 64,
        "probability": 0.9,
        "threshold": 0.5,
        "types": {"glioma": 1.0},
        "ood_score": 0.1,
        "model_version": "1",
        "timings_ms": {"network": 1.0},
    }
    heat = HeatMap(values=heat_map.tolist(), crop_box=crop_box, image_png=base64.b64encode(content.getvalue()).decode())
    return PredictionResponse(**values | {"prediction": prediction, "heat_map": heat} | fields)


@pytest.fixture
def corner() -> PredictionResponse:
    """A grey head of 200 x 100 whose crop box is its right half, with evidence in the box's upper left cell."""
    cells = np.zeros((16, 16))
    cells[0, 0], cells[15, 15] = 1.0, -0.5
    return result_of(np.full((100, 200), 100, np.uint8), cells, CropBox(left=100, top=0, side=100))


def assert_same(coloured: np.ndarray, grey: np.ndarray) -> None:
    """RGB and grey pixels that look alike."""
    assert np.array_equal(coloured, np.repeat(grey[..., np.newaxis], 3, axis=2))


def test_heat_lies_in_its_cell_and_nowhere_else(corner: PredictionResponse) -> None:
    heat = overlay.heat_over((100, 200), np.asarray(corner.heat_map.values), corner.heat_map.crop_box)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 0 <= row < 7
    assert 100 <= column < 107
    assert heat[:, :90].max() == 0
    assert heat[20:, 120:].max() == 0


def test_evidence_against_is_shown_by_its_own_sign(corner: PredictionResponse) -> None:
    heat = overlay.heat_over((100, 200), -np.asarray(corner.heat_map.values), corner.heat_map.crop_box)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row > 93
    assert column > 193
    assert heat.max() == pytest.approx(0.5, abs=0.1)


def test_a_crop_box_beyond_the_image_is_cut(corner: PredictionResponse) -> None:
    heat = overlay.heat_over((50, 50), np.ones((16, 16)), CropBox(left=-25, top=-25, side=100))
    assert heat.shape == (50, 50)
    assert heat.min() > 0.99


def test_without_opacity_the_overlay_is_the_scan(corner: PredictionResponse) -> None:
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


@pytest.fixture
def head() -> PredictionResponse:
    """A bright disc on black, with evidence everywhere."""
    rows, columns = np.mgrid[:128, :128]
    disc = ((rows - 64) ** 2 + (columns - 64) ** 2 < 40**2).astype(np.uint8) * 160
    return result_of(disc, np.ones((16, 16)), CropBox(left=0, top=0, side=128))


def test_no_colour_lies_outside_the_head(head: PredictionResponse) -> None:
    coloured, plain = overlay.overlay(head, Look()), overlay.original(head, Look())
    differs = (coloured != plain[..., np.newaxis]).any(axis=2)
    assert differs[320, 320]
    assert not differs[:60].any()
    assert not differs[:60:, :60].any()


def test_a_head_with_a_dark_middle_is_covered_whole() -> None:
    ring = np.zeros((96, 96), np.uint8)
    ring[10:86, 10:86] = 180
    ring[30:66, 30:66] = 0
    mask = overlay.head_mask(ring)
    assert mask[48, 48]
    assert not mask[2, 2]


def test_a_refused_image_has_no_evidence(head: PredictionResponse) -> None:
    refused = replace(head, prediction="Not a brain MRI")
    assert overlay.signed_heat(refused) is None
    assert_same(overlay.overlay(refused, Look()), overlay.original(refused, Look()))


def test_heat_has_the_sign_of_its_evidence(head: PredictionResponse) -> None:
    assert head.heat_map is not None
    against = replace(head, heat_map=replace(head.heat_map, values=(-np.ones((16, 16))).tolist()))
    assert overlay.signed_heat(head)[64, 64] == pytest.approx(1)
    assert overlay.signed_heat(against)[64, 64] == pytest.approx(-1)
