"""Whether the heat map shows what it claims: against gradients, random weights, and lesions at known places."""

import cv2
import keras
import numpy as np
import tensorflow as tf

from services.training.modelling.export import evidence
from shared.imaging.preprocessing import SIDE


def heat_maps(network: keras.Model, scans: np.ndarray) -> np.ndarray:
    """Return Grad-CAM for Cancer before its rectifier, (n, 16, 16), of inputs (n, 128, 128, 3), without the mirror."""
    graph = keras.Model(network.input, network.output["cells"])
    return evidence(network, tf.convert_to_tensor(graph.predict(scans, batch_size=64, verbose=0))).numpy()


def gradient_heat_maps(network: keras.Model, scans: np.ndarray) -> np.ndarray:
    """Return the same by the definition of Grad-CAM: channels weighed by the mean gradient of the logit."""
    head = keras.Model(network.input, network.output["map"])
    merged = tf.convert_to_tensor(head(scans, training=False))
    with tf.GradientTape() as tape:
        tape.watch(merged)
        logit = network.get_layer("logit")(network.get_layer("embedding")(merged))
    weights = tf.reduce_mean(tape.gradient(logit, merged), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * merged, axis=-1).numpy()


def randomised_likeness(network: keras.Model, scans: np.ndarray) -> float:
    """Return the maps' mean correlation with those of the same network with random weights (Adebayo et al. 2018).

    Near 1 for an edge detector. Both follow the head's outline, so compare it with `outline_likeness`.
    """
    keras.utils.set_random_seed(0)
    random = keras.models.clone_model(network)
    pairs = zip(heat_maps(network, scans), heat_maps(random, scans), strict=True)
    return float(np.nanmean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]))


def outline_likeness(network: keras.Model, scans: np.ndarray) -> float:
    """Return the maps' mean correlation with the head's outline alone: what every map has in common."""
    outlines = [
        cv2.resize((scan[..., 0] > 0.1).astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA) for scan in scans
    ]
    pairs = zip(heat_maps(network, scans), outlines, strict=True)
    return float(np.nanmean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]))


def drawn_lesions(healthy: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return prepared images with a lesion each, uint8 (count, 128, 128), and the lesions' masks, bool, alike in shape.

    Ellipses of 8 to 30 pixels, soft at the rim, a quarter to all of the contrast to white, anywhere in the head: on
    purpose not the lesions that training draws.
    """
    rng = np.random.default_rng(seed)
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    while len(images) < count:
        image = healthy[rng.integers(len(healthy))]
        places = np.argwhere(
            cv2.erode((cv2.blur(image, (7, 7)) > 30).astype(np.uint8), np.ones((25, 25)), borderValue=0)
        )
        if len(places) == 0:
            continue
        y, x = (int(v) for v in places[rng.integers(len(places))])
        axes = tuple(int(v) for v in rng.integers(4, 16, 2))
        mask = cv2.ellipse(np.zeros((SIDE, SIDE)), (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(mask, (0, 0), 1.5) * rng.uniform(0.35, 1)
        images.append((image + soft * (rng.uniform(200, 255) - image)).astype(np.uint8))
        masks.append(mask > 0)
    return np.stack(images), np.stack(masks)


def lesion_hits(maps: np.ndarray, masks: np.ndarray, margin: int = 4) -> np.ndarray:
    """Return whether the peak of each heat map (n, 16, 16) lies in its lesion, give or take half a cell of the map."""
    wide, cell = np.ones((2 * margin + 1,) * 2, np.uint8), SIDE // maps.shape[1]
    middles = [((np.array(np.unravel_index(one.argmax(), one.shape)) + 0.5) * cell).astype(int) for one in maps]
    grown = [cv2.dilate(mask.astype(np.uint8), wide) for mask in masks]
    return np.array([bool(mask[y, x]) for mask, (y, x) in zip(grown, middles, strict=True)])


def chance_hits(images: np.ndarray, masks: np.ndarray, margin: int = 4) -> np.ndarray:
    """Return how likely a peak anywhere in the head would be a hit by the rule of `lesion_hits`, (n,)."""
    wide = np.ones((2 * margin + 1,) * 2, np.uint8)
    grown = [cv2.dilate(mask.astype(np.uint8), wide) > 0 for mask in masks]
    heads = [cv2.blur(image, (9, 9)) > 25 for image in images]
    return np.array([(mask & head).sum() / max(head.sum(), 1) for mask, head in zip(grown, heads, strict=True)])
