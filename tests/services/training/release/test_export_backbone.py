"""The ImageNet backbone that ships with the Spark job is the real one."""

import cv2
import numpy as np
import pytest
from skimage.data import chelsea

from services.preprocessing.feature_files import backbone_embeddings
from services.training.modelling.imagenet import imagenet_weights
from services.training.release.export_backbone import efficientnet_lite0

TABBY, TIGER_CAT, EGYPTIAN_CAT = 281, 282, 285
"""Classes of ImageNet."""


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    """A photograph (128, 128, 3) in [0, 1]."""
    photograph = chelsea()
    square = photograph[:, 75:375]
    return cv2.resize(square, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def test_backbone_names_a_cat(cat: np.ndarray) -> None:
    weights = imagenet_weights()
    (features,) = backbone_embeddings(cat[np.newaxis])
    scores = weights["_fc.weight"] @ features + weights["_fc.bias"]
    assert set(np.argsort(scores)[-3:]) == {TABBY, TIGER_CAT, EGYPTIAN_CAT}


def test_graph_answers_as_the_network_it_was_exported_from(cat: np.ndarray) -> None:
    scans = np.stack([cat, cat[::-1], 1 - cat])
    exact = efficientnet_lite0()(scans).numpy()
    np.testing.assert_allclose(backbone_embeddings(scans), exact, atol=0.02 * exact.max())


def test_scans_of_a_batch_do_not_touch_each_other(cat: np.ndarray) -> None:
    scans = np.stack([cat, cat[:, ::-1]] * 20)
    together = backbone_embeddings(scans)
    alone = backbone_embeddings(scans[:1])
    np.testing.assert_allclose(together[::2], np.repeat(alone, 20, axis=0), rtol=1e-4, atol=1e-4)
