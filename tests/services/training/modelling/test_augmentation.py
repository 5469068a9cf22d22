import cv2
import numpy as np
import pytest

from services.training.modelling import augmentation as augment

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


def test_another_scans_style_leaves_the_background_black():
    other = np.random.default_rng(1).integers(0, 256, (128, 128), dtype=np.uint8)
    styled = augment.with_amplitude_of(HEAD, other, np.random.default_rng(0))
    assert styled[0, 0] == 0
    assert (styled != HEAD).any()


def test_stripping_takes_the_outer_ring():
    assert augment.stripped(HEAD, np.random.default_rng(0))[64].max() > 0
    assert (augment.stripped(HEAD, np.random.default_rng(0)) > 0).sum() > 0.3 * HEAD.size
