"""What ImageNet's own filters make of an image, as statistics of their maps by zone: features that no fit changes."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from services.training.data.scans import inputs
from services.training.modelling.network import network
from shared.imaging.preprocessing import SIDE

EARLY = "blocks.3._expand_conv"
"""The layer that takes the first map (32 x 32 x 24), up to which every network keeps ImageNet's weights."""
_MAPS = (EARLY, "blocks.5._expand_conv", "blocks.11._expand_conv")
"""Layers that take the maps of which means and standard deviations are the features."""
WHOLE = 352
"""The last features: those of whole maps."""
_ZONES = (0.45, 0.8)
"""Distances from the middle, in halves of a side, at which the zones of a map meet: a head CT has its bone in the last
two, and hardly anything in the first."""


def late_maps() -> keras.Model:
    """Return the network from the first map to the list of the later ones, with ImageNet's weights throughout."""
    whole = network()
    first, *later = (whole.get_layer(name).input for name in _MAPS)
    return keras.Model(first, later)


def map_statistics(maps: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the features (n, d) of maps of a known size: by zone, each channel's mean and standard deviation.

    Those of whole maps come last.
    """
    by_map = [list(_statistics(one)) for one in maps]
    return keras.ops.concatenate([part for zone in zip(*by_map, strict=True) for part in zone], axis=-1)


def _statistics(x: keras.KerasTensor) -> Iterator[keras.KerasTensor]:
    _, height, width, channels = x.shape
    flat = keras.ops.reshape(x, (-1, height * width, channels))
    for zone in zones(height, width):
        inside = zone.reshape(1, -1, 1).astype(np.float32)
        mean = keras.ops.sum(flat * inside, axis=1, keepdims=True) / inside.sum()
        variance = keras.ops.sum(keras.ops.square(flat - mean) * inside, axis=1) / inside.sum()
        yield keras.ops.concatenate([keras.ops.squeeze(mean, 1), keras.ops.sqrt(variance + 1e-5)], axis=-1)


def zones(height: int, width: int) -> list[np.ndarray]:
    """Return where the middle of a map lies, what surrounds it, its border, and all of it, boolean (h, w) each.

    A turned or mirrored image has the same zones.
    """
    y, x = ((np.arange(side) + 0.5) * 2 / side - 1 for side in (height, width))
    number = np.digitize(np.hypot(y[:, None], x), _ZONES)
    return [*(number == zone for zone in range(len(_ZONES) + 1)), np.ones((height, width), bool)]


def statistics(images: np.ndarray) -> np.ndarray:
    """Return the features of prepared images, uint8 (n, 128, 128), float32 (n, 1408)."""
    whole = network()
    scan = keras.Input((SIDE, SIDE, 3))
    first = keras.Model(whole.input, whole.get_layer(EARLY).input)(scan)
    found = keras.Model(scan, map_statistics([first, *late_maps()(first)])).predict(
        inputs(images), batch_size=64, verbose=0
    )
    return np.asarray(found)
