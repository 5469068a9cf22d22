import cv2
import numpy as np
import pytest

from services.training.data.copies import copies, fingerprint, split_groups
from tests.support.training_scans import head, prepared, scans

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
    images = prepared(head(0), head(1), copy)
    found = split_groups(images, scans(images).table)
    assert found[0] == found[2] != found[1]


def test_other_heads_are_groups_of_their_own():
    images = prepared(*(head(seed) for seed in range(30)))
    assert len(np.unique(split_groups(images, scans(images).table))) == 30
    assert len(np.unique(copies(images))) == 30


def test_scans_of_one_person_are_one_group():
    images = prepared(*(head(seed) for seed in range(4)))
    table = scans(images, person=["ann", "", "ann", ""], person_from=["told", "", "told", ""]).table
    found = split_groups(images, table)
    assert found[0] == found[2]
    assert len(np.unique(found)) == 3


def test_registered_heads_of_told_people_are_apart_however_alike():
    images = prepared(head(0), head(0), head(0))
    table = scans(images, person=["ann", "bob", "bob"], person_from="told").table
    found = split_groups(images, table)
    assert found[0] != found[1] == found[2]


def test_what_is_alike_enough_for_a_split_is_not_yet_a_copy():
    mixed = [cv2.addWeighted(head(0), 1 - share, head(1), share, 0) for share in np.linspace(0, 0.5, 60)]
    (plain,) = prepared(head(0))
    likeness = [float(np.sum(fingerprint(plain) * fingerprint(image))) for image in prepared(*mixed)]
    alike = next(image for image, near in zip(mixed, likeness, strict=True) if 0.88 < near < 0.94)
    images = prepared(head(0), alike)
    assert len(np.unique(split_groups(images, scans(images).table))) == 1
    assert len(np.unique(copies(images))) == 2
