import cv2
import numpy as np
import pandas as pd
import pytest

from services.training import audit
from services.training.data import Scans
from shared.imaging.preprocessing import prepare


def head(seed: int) -> np.ndarray:
    """A textured ellipse, another one for every seed, uint8 (256, 256)."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (256, 256)), (0, 0), 9) * 40 + 130
    mask = cv2.ellipse(np.zeros((256, 256)), (128, 128), (int(rng.integers(70, 90)), 105), 0, 0, 360, 1, -1)
    return (np.clip(texture, 50, 255) * mask).astype(np.uint8)


def prepared(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([np.rint(prepare(picture)[..., 0] * 255).astype(np.uint8) for picture in pictures])


COPIES = {
    "mirrored": lambda image: image[:, ::-1],
    "turned": np.rot90,
    "mirrored and turned": lambda image: np.rot90(image[:, ::-1], 3),
    "sharpened": lambda image: cv2.addWeighted(image, 2, cv2.GaussianBlur(image, (0, 0), 1.5), -1, 0),
    "brighter": lambda image: cv2.LUT(image, (255 * np.linspace(0, 1, 256) ** 0.7).astype(np.uint8)),
    "inverted": lambda image: 255 - image,
    "smaller": lambda image: cv2.resize(image, (120, 120), interpolation=cv2.INTER_AREA),
    "in a margin": lambda image: cv2.copyMakeBorder(image, 60, 10, 30, 5, cv2.BORDER_CONSTANT, value=0),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(name):
    copy = np.ascontiguousarray(COPIES[name](head(0)))
    found = audit.groups(prepared(head(0), head(1), copy))
    assert found[0] == found[2] != found[1]


def test_other_heads_are_groups_of_their_own():
    assert len(np.unique(audit.groups(prepared(*(head(seed) for seed in range(30)))))) == 30


def test_scans_of_one_patient_are_one_group():
    found = audit.groups(prepared(*(head(seed) for seed in range(4))), np.array(["ann", "", "ann", ""]))
    assert found[0] == found[2]
    assert len(np.unique(found)) == 3


def test_copies_under_both_labels_contradict_each_other():
    images = prepared(head(0), np.ascontiguousarray(np.rot90(head(0))), head(1), head(1))
    assert audit.contradicted(images, np.array([0, 1, 1, 1])).tolist() == [True, True, False, False]


def test_a_shortcut_in_the_files_is_measured():
    count = 80
    labels = np.arange(count) % 2
    table = pd.DataFrame({"label": labels, "format": "JPEG", "mode": "L", "width": 100 + labels, "height": 100})
    images = np.random.default_rng(0).integers(0, 256, (count, 128, 128), dtype=np.uint8)
    parts = np.where(np.arange(count) < 60, "train", "test")
    found = audit.shortcut_accuracy(Scans(table, images), parts)
    assert found["format, mode and size"] == 1
    assert found["4 x 4 thumbnail"] < 0.9
