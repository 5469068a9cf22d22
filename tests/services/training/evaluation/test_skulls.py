import cv2
import numpy as np

from services.training.evaluation import skulls
from tests.support.training_scans import scans

BRAIN = cv2.ellipse(np.zeros((128, 128), np.uint8), (64, 64), (48, 60), 0, 0, 360, 120, -1)
LESION = cv2.circle(np.zeros((128, 128), np.uint8), (44, 50), 8, 255, -1)
HEAD = cv2.ellipse(np.zeros((128, 128), np.uint8), (64, 64), (45, 58), 0, 0, 360, 150, -1)


def test_a_stripped_head_lies_within_the_scalp_of_another_with_all_that_it_shows():
    other = cv2.ellipse(HEAD.copy(), (64, 64), (45, 58), 0, 0, 360, 255, 3)
    for seed in range(8):
        found = skulls.within_skull_of(np.maximum(BRAIN, LESION), other, np.random.default_rng(seed))
        assert found is not None
        scalp = other == 255
        assert (found[scalp] > 0).mean() > 0.95
        lesion = (found == 255) & ~scalp
        assert 0.3 < lesion.sum() / (LESION > 0).sum() < 1
        assert np.median(found[~scalp & (found > 0)]) == 120
        assert found[0, 0] == 0


def test_a_brain_of_another_form_and_one_that_is_not_there_fit_no_skull():
    flat = cv2.ellipse(np.zeros((128, 128), np.uint8), (64, 64), (60, 30), 0, 0, 360, 120, -1)
    rng = np.random.default_rng(0)
    assert skulls.within_skull_of(flat, HEAD, rng) is None
    assert skulls.within_skull_of(BRAIN, np.zeros_like(HEAD), rng) is None
    assert skulls.within_skull_of(np.zeros_like(BRAIN), HEAD, rng) is None


def test_a_stripped_head_is_put_into_the_skull_of_a_healthy_head_of_its_sequence(monkeypatch):
    asked = []

    def noted(image, other, rng):
        asked.append((int(image.max()), int(other.max())))
        return other if len(asked) % 2 else None

    monkeypatch.setattr(skulls, "within_skull_of", noted)
    mine = scans(
        flat(1, 2, 3, 4), skull=["stripped", "stripped", "skull", "stripped"], sequence=["T1c", "T2", "T1", ""]
    )
    others = scans(
        flat(11, 12, 13, 14, 15),
        skull=["skull", "skull", "skull", "stripped", "skull"],
        sequence=["T1", "FLAIR", "T2", "T1", "T1"],
        label=[0, 0, 0, 0, 1],
    )
    found = skulls.in_skulls(mine, others)
    assert [None if image is None else int(image.max()) for image in found[:3]] == [11, 13, None]
    assert {other for image, other in asked if image == 1} == {11}
    assert {other for image, other in asked if image == 4} <= {11, 12, 13}
    assert found[3] is not None


def test_heads_that_no_skull_fits_have_no_logit_within_one(monkeypatch):
    monkeypatch.setattr(skulls, "within_skull_of", lambda *_: None)
    mine, others = scans(flat(1), skull="stripped"), scans(flat(2), skull="skull")
    assert skulls.in_skulls(mine, others) == [None]
    assert skulls.in_skulls(mine, scans(flat(2), skull="stripped")) == [None]


def flat(*levels: int) -> np.ndarray:
    return np.stack([np.full((128, 128), level, np.uint8) for level in levels])
