import numpy as np

from services.training.data import ood_images


def tomography() -> np.ndarray:
    """A disc of brain (90) with a darker ventricle (60), in a ring of bone, on nothing."""
    y, x = np.mgrid[:128, :128]
    distance = np.hypot(y - 64, x - 64)
    return np.select([distance > 60, distance > 52, distance < 8], [0, 255, 60], 90).astype(np.uint8)


def test_another_window_moves_the_brain_and_its_contrast_and_leaves_the_air_black():
    seen = np.stack([ood_images.windowed(tomography(), np.random.default_rng(seed)) for seed in range(30)]).astype(int)
    air, brain, ventricle, bone = seen[:, 0, 0], seen[:, 64, 90], seen[:, 64, 64], seen[:, 64, 120]
    assert (air == 0).all()
    assert (ventricle <= brain).all() and (brain <= bone).all()
    assert np.ptp(brain) > 50
    assert np.ptp(brain - ventricle) > 30
