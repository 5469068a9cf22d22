import cv2
import numpy as np
import pytest

from services.training import augment

RNG = np.random.default_rng(0)
HEAD = cv2.ellipse(np.zeros((128, 128), np.uint8), (64, 64), (45, 58), 0, 0, 360, 120, -1)
HEAD += (HEAD > 0) * RNG.integers(0, 60, (128, 128), dtype=np.uint8)


OPERATIONS = [operation for operation, _ in augment.PLACING + augment.RETONING]


@pytest.mark.parametrize("operation", [*OPERATIONS, augment.stripped])
def test_an_operation_keeps_the_form_of_an_image_and_changes_it(operation):
    drawn = [operation(HEAD, np.random.default_rng(seed)) for seed in range(4)]
    assert all(image.shape == (128, 128) and image.dtype == np.uint8 for image in drawn)
    assert any((image != HEAD).any() for image in drawn)


def test_intensity_curves_keep_the_background_black():
    assert all(augment.recurved(HEAD, np.random.default_rng(seed))[0, 0] == 0 for seed in range(20))


def test_the_same_seed_draws_the_same():
    one, other = (augment.augmented(HEAD, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, other)


def test_a_lesion_changes_its_own_place_most():
    for seed in range(20):
        drawn, mask = augment.with_lesion(HEAD, np.random.default_rng(seed))
        changed = np.abs(drawn.astype(int) - HEAD)
        assert 20 < (mask > 0).sum() < 0.3 * HEAD.size
        assert (changed[mask > 0] > 0).mean() > 0.9
        assert changed[mask > 0].mean() > 2 * changed[mask == 0].mean()


def test_a_lesion_moves_with_its_head():
    drawn, mask = augment.with_lesion(HEAD, np.random.default_rng(5))
    drawn[mask > 0] = 255
    moved = augment.placed(np.dstack([drawn, mask]), np.random.default_rng(6))
    assert (moved[..., 1] != mask).any()
    assert moved[..., 0][moved[..., 1] > 250].min() > 250


def test_an_image_without_a_head_gets_no_lesion():
    drawn, mask = augment.with_lesion(np.zeros((128, 128), np.uint8), np.random.default_rng(0))
    assert not drawn.any()
    assert not mask.any()


def test_stripping_takes_the_outer_ring():
    assert augment.stripped(HEAD, np.random.default_rng(0))[64].max() > 0
    assert (augment.stripped(HEAD, np.random.default_rng(0)) > 0).sum() > 0.3 * HEAD.size
