"""A drawn glioma in a brain volume, in depth: irregular border, necrotic core, enhancing rim, oedema and mass effect.

It imitates T1 with contrast: the core is dark, the rim bright, the oedema darker than the white matter it spreads in.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

_RIM = 0.72
"""Where the enhancing rim is brightest, as a share of the lesion's radius."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """Where a lesion is drawn and how large it is, in voxels of 1 mm."""

    centre: tuple[float, float, float]
    radius: float
    oedema: float = 1.9
    """How far the oedema reaches, as a multiple of the radius."""
    push: float = 0.22
    """How far the border pushes the tissue outside, as a share of the radius."""
    seed: int = 7


def draw(volume: np.ndarray, lesion: Lesion) -> np.ndarray:
    """Return a copy of a skull-to-skull T1 volume, uint8 (x, y, z) with 1 mm voxels, with the lesion in it."""
    rng = np.random.default_rng(lesion.seed)
    box = _box(volume.shape, lesion)
    tissue = _pushed(volume.astype(np.float32), box, lesion)
    distance = _distance(box, lesion, rng)
    white = float(np.percentile(volume[volume > 0], 90))
    brain = np.clip(gaussian_filter(tissue, 2) / white * 6 - 1.8, 0, 1)
    texture = 1 + 0.12 * _noise(tissue.shape, 1.5, rng)
    rim = 0.62 * white * np.exp(-(((distance - _RIM) / 0.17) ** 2)) * (1 + 0.35 * _noise(tissue.shape, 4, rng))
    inside = _below(distance, 1.0, 0.06)
    core = 0.28 * white * texture
    swelling = 0.3 * _below(distance, lesion.oedema, 0.18) * (1 - inside) * _whiteness(tissue, white)
    drawn = (
        tissue * (1 - swelling) * (1 - inside) + core * inside + np.clip(rim, 0, white) * _below(distance, 1.08, 0.05)
    )
    result = volume.copy()
    result[box] = np.clip(tissue + (drawn - tissue) * brain, 0, 255).astype(np.uint8)
    return result


def _box(shape: tuple[int, ...], lesion: Lesion) -> tuple[slice, ...]:
    """Return the part of the volume that the lesion changes."""
    reach = int(np.ceil(5 * lesion.radius))  # where nothing is pushed or swollen any more, so no edge shows
    sides = zip(lesion.centre, shape, strict=True)
    return tuple(slice(max(int(c) - reach, 0), min(int(c) + reach + 1, size)) for c, size in sides)


def _grid(box: tuple[slice, ...], lesion: Lesion) -> np.ndarray:
    """Return every voxel's offset from the centre, float32 (3, x, y, z)."""
    offsets = np.mgrid[box].astype(np.float32)
    return offsets - np.array(lesion.centre, np.float32)[:, None, None, None]


def _pushed(volume: np.ndarray, box: tuple[slice, ...], lesion: Lesion) -> np.ndarray:
    """Return the box with the tissue moved away from the centre, least far off."""
    offsets = _grid(box, lesion)
    squared = np.square(offsets).sum(0)
    shift = lesion.push * np.exp(-squared / (2 * (1.5 * lesion.radius) ** 2))
    source = offsets * (1 - shift) + np.array(lesion.centre, np.float32)[:, None, None, None]
    moved: np.ndarray = map_coordinates(volume, source, order=1, mode="nearest")
    return moved


def _distance(box: tuple[slice, ...], lesion: Lesion, rng: np.random.Generator) -> np.ndarray:
    """Return the distance from the centre as a share of the radius, with a border as irregular as a glioma's."""
    offsets = _grid(box, lesion)
    stretched = offsets * np.array([1.0, 0.82, 1.1], np.float32)[:, None, None, None]
    radial = np.sqrt(np.square(stretched).sum(0)) / lesion.radius
    irregular = 0.24 * _noise(radial.shape, lesion.radius / 2.6, rng) + 0.08 * _noise(radial.shape, 2.5, rng)
    bumpy: np.ndarray = radial + irregular * np.clip(radial, 0, 1)
    return bumpy


def _noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of unit variance, its grains `scale` voxels wide."""
    smooth = gaussian_filter(rng.normal(size=shape).astype(np.float32), scale)
    return np.asarray(smooth / smooth.std())


def _below(distance: np.ndarray, border: float, softness: float) -> np.ndarray:
    """Return 1 inside a border and 0 outside, with a soft edge."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - border) / softness, -30, 30))))


def _whiteness(tissue: np.ndarray, white: float) -> np.ndarray:
    """Return how much a voxel is white matter, along whose fibres oedema spreads: 0 to 1."""
    return np.asarray(np.clip((gaussian_filter(tissue, 1.2) / white - 0.48) / 0.27, 0, 1))
