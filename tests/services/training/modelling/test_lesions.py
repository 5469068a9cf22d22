import cv2
import numpy as np
import pytest

from services.training.modelling import augmentation, lesions

RNG = np.random.default_rng(0)
HEAD = cv2.ellipse(np.zeros((128, 128), np.uint8), (64, 64), (45, 58), 0, 0, 360, 120, -1)
HEAD += (HEAD > 0) * cv2.GaussianBlur(RNG.integers(0, 60, (128, 128), dtype=np.uint8), (0, 0), 1)
BOX = np.array([60.0, 50.0, 30.0, 24.0])
TUMOUR = cv2.ellipse(HEAD.copy(), (60, 50), (14, 11), 0, 0, 360, 250, -1)


def test_a_drawn_lesion_changes_its_own_place_most():
    for seed in range(20):
        new, mask = lesions.drawn(HEAD, np.random.default_rng(seed))
        changed = np.abs(new.astype(int) - HEAD)
        assert 20 < (mask > 0).sum() < 0.3 * HEAD.size
        assert (changed[mask > 0] > 0).mean() > 0.9
        assert changed[mask > 0].mean() > 2 * changed[mask == 0].mean()


def test_an_infiltrating_lesion_keeps_the_tissues_texture():
    found = [lesions.infiltrating(HEAD, np.random.default_rng(seed)) for seed in range(20)]
    ratios = []
    for new, mask in found:
        inside = mask > 0
        if inside.sum() >= 40:
            changed = np.abs(new.astype(int) - HEAD)
            ratios.append(changed[inside].mean() / changed[~inside].mean())
            fine = [cv2.Laplacian(image.astype(np.float32), -1)[inside].std() for image in (new, HEAD)]
            assert fine[0] > 0.2 * fine[1]
    assert len(ratios) >= 10
    assert np.median(ratios) > 2


def test_a_transplanted_tumour_is_where_its_mask_says():
    found = [lesions.transplanted(HEAD, TUMOUR, BOX, np.random.default_rng(seed)) for seed in range(10)]
    assert sum(mask.any() for _, mask in found) >= 8
    for new, mask in found:
        if mask.any():
            changed = np.abs(new.astype(int) - HEAD)
            assert changed[mask > 0].mean() > 5 * changed[mask == 0].mean()


def test_a_tumour_without_its_enhancement_is_no_brighter_than_tissue():
    plain = lesions.without_enhancement(TUMOUR, lesions.box_mask(BOX), np.random.default_rng(0))
    assert plain[45:56, 55:66].mean() < 1.15 * np.median(HEAD[HEAD > 20])
    assert np.abs(plain.astype(int) - TUMOUR)[100:].mean() < 2


@pytest.mark.parametrize("make", [lesions.look_alike, lesions.with_contrast])
def test_what_looks_alike_changes_the_head_and_leaves_the_air(make):
    thin = HEAD.copy()
    thin[20:100, 64] = 220
    changed = [make(thin, np.random.default_rng(seed)) for seed in range(12)]
    assert sum((new != thin).any() for new in changed) >= 10
    assert all(new[:4, :4].max() == 0 for new in changed)


@pytest.mark.parametrize("make", [lesions.drawn, lesions.infiltrating])
def test_an_image_without_a_head_gets_no_lesion(make):
    new, mask = make(np.zeros((128, 128), np.uint8), np.random.default_rng(0))
    assert not new.any()
    assert not mask.any()


def test_a_lesion_that_nobody_can_see_is_found_out():
    mask = cv2.circle(np.zeros((128, 128), np.uint8), (64, 64), 8, 255, -1)
    assert not lesions.visible(HEAD, mask)
    assert lesions.visible(np.where(mask > 0, 255, HEAD).astype(np.uint8), mask)
    tiny = cv2.circle(np.zeros((128, 128), np.uint8), (64, 64), 2, 255, -1)
    assert not lesions.visible(np.where(tiny > 0, 255, HEAD).astype(np.uint8), tiny)


def test_a_lesion_moves_with_its_head():
    new, mask = lesions.drawn(HEAD, np.random.default_rng(5))
    new[mask > 0] = 255
    moved = augmentation.placed(np.dstack([new, mask]), np.random.default_rng(6))
    assert (moved[..., 1] != mask).any()
    assert moved[..., 0][moved[..., 1] > 250].min() > 250
