"""Lesions put into healthy heads, so that a head with one and without differ in nothing else; and what looks alike.

Each function that adds a lesion takes and returns a prepared image, uint8 (128, 128), and returns the lesion's mask
with it, uint8 (128, 128), 0 or 255; the mask is empty if no lesion fits.
"""

import cv2
import numpy as np

from shared.imaging.preprocessing import SIDE

Drawn = tuple[np.ndarray, np.ndarray]

CONTRAST = 0.6
"""Least difference between a lesion's mean and that of the ring round it, in standard deviations of the ring."""


def drawn(image: np.ndarray, rng: np.random.Generator) -> Drawn:
    """With a lesion drawn into the head.

    Lobes with a soft or sharp rim, brighter, darker or hollow, some within a halo, some pushing the tissue round them
    away. The same healthy head with and without a lesion is the one pair in which source and sequence predict nothing.
    """
    head = cv2.erode((cv2.blur(image, (9, 9)) > 25).astype(np.uint8), np.ones((19, 19), np.uint8), borderValue=0)
    places = np.argwhere(head)
    if len(places) < 200:
        return image, np.zeros_like(image)
    y, x = places[rng.integers(len(places))]
    radius = np.exp(rng.uniform(np.log(4), np.log(20)))
    within = cv2.dilate(head, np.ones((7, 7), np.uint8))
    blob = _lobes(x, y, radius, rng) * within
    tissue = float(np.median(image[head > 0]))
    if rng.random() < 0.4:
        image = _pushed(image, x, y, radius, rng)
    texture = cv2.GaussianBlur(
        rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), rng.uniform(1, 3)
    ) * rng.uniform(5, 40)
    shade = tissue + rng.uniform(40, 130) * (1 if rng.random() < 0.75 else -0.7)
    core = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    inside = np.clip(shade + rng.uniform(0, 0.5) * (core - tissue) + texture, 4, 255)
    new = image + blob * (inside - image)
    if rng.random() < 0.35:
        hole = _blob(x, y, radius * rng.uniform(0.4, 0.75), rng) * within
        new = new + hole * (np.clip(tissue * rng.uniform(0.2, 0.8) + texture, 4, 255) - new)
    if rng.random() < 0.4:
        middle = x + rng.normal(0, 4), y + rng.normal(0, 4)
        halo = _blob(*middle, radius * rng.uniform(1.4, 2.2), rng) * head * (1 - blob)
        new = new + halo * rng.uniform(0.3, 0.7) * np.sign(shade - tissue) * rng.uniform(20, 60)
    return np.clip(new, 0, 255).astype(np.uint8), (255 * (blob > 0.5)).astype(np.uint8)


def _lobes(x: float, y: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """One to three blobs that overlap, float32 (128, 128) in [0, 1]."""
    blob = _blob(x, y, radius, rng)
    for _ in range(rng.integers(0, 3)):
        along, angle = radius * rng.uniform(0.5, 1), rng.uniform(0, 2 * np.pi)
        lobe = _blob(x + along * np.cos(angle), y + along * np.sin(angle), radius * rng.uniform(0.4, 0.9), rng)
        blob = np.maximum(blob, lobe)
    return blob


def _pushed(image: np.ndarray, x: float, y: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """The tissue round a place pushed outwards, as a growing mass does."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    across, down = columns - np.float32(x), rows - np.float32(y)
    reach = 2 * np.square(np.float32(radius * rng.uniform(1.2, 2.5)))
    strength = np.float32(rng.uniform(0.1, 0.45)) * np.exp(-(across * across + down * down) / reach)
    return cv2.remap(image, columns - across * strength, rows - down * strength, cv2.INTER_LINEAR)


def _blob(x: float, y: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """float32 (128, 128) in [0, 1]: a bumpy ellipse, soft at its rim."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    across, down = columns - np.float32(x), rows - np.float32(y)
    angle = np.arctan2(down, across)
    stretch, tilt = np.float32(rng.uniform(0, 0.35)), rng.uniform(0, np.pi)
    rim = 1 + stretch * np.cos(2 * (angle - tilt))
    for waves in (3, 4, 5, 7):
        rim += np.float32(rng.normal(0, 0.06)) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(across, down) / np.maximum(radius * rim, 1)
    return np.clip((1.05 - distance) / rng.uniform(0.05, 0.4), 0, 1).astype(np.float32)


def infiltrating(image: np.ndarray, rng: np.random.Generator) -> Drawn:
    """With a diffuse lesion: no rim, the tissue's texture kept, along like tissue, one-sided, often pushing.

    Bright as in FLAIR and T2, or slightly dark as in T1. A low-grade glioma looks so, and no drawn blob does.
    """
    head = cv2.erode((cv2.blur(image, (9, 9)) > 25).astype(np.uint8), np.ones((17, 17), np.uint8), borderValue=0)
    if head.sum() < 400:
        return image, np.zeros_like(image)
    low, high = np.percentile(image[head > 0], [15, 85])
    places = np.argwhere((head > 0) & (image >= low) & (image <= high))
    y, x = places[rng.integers(len(places))]
    radius = np.exp(rng.uniform(np.log(9), np.log(28)))
    if rng.random() < 0.6:
        image = _pushed(image, x, y, radius, rng)
    plain = image.astype(np.float32)
    mask = _along_tissue(plain, (x, y), radius, head, rng)
    base, spread = cv2.GaussianBlur(plain, (0, 0), 3), max(float(plain[head > 0].std()), 12)
    level = float(base[y, x])
    gain = -rng.uniform(0.12, 0.4) * level if rng.random() < 0.4 else rng.uniform(0.2, 0.75) * (245 - level)
    gain = np.sign(gain) * max(abs(gain), 0.6 * spread)
    texture = 1 - rng.uniform(0.3, 0.8) * mask
    new = base + texture * (plain - base) + mask * gain * (1 + rng.uniform(0, 0.25) * _clouds(rng, 3))
    return np.clip(new, 0, 255).astype(np.uint8), (255 * (mask > 0.45)).astype(np.uint8)


def _along_tissue(
    plain: np.ndarray, place: tuple[int, int], radius: float, head: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A warped ellipse, weighed by how like the seed's tissue is; it spares fluid and bone; float32 in [0, 1]."""
    x, y = place
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    tilt, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 1.9))
    along = (columns - x) * np.cos(tilt) + (rows - y) * np.sin(tilt)
    across = (rows - y) * np.cos(tilt) - (columns - x) * np.sin(tilt)
    distance = np.hypot(along / (radius * stretch), across / (radius / stretch))
    distance = distance + 0.22 * _clouds(rng, 6) + 0.1 * _clouds(rng, 2.5)
    mask = 1 / (1 + np.exp(np.clip((distance - 1) / rng.uniform(0.06, 0.3), -30, 30)))
    level = float(cv2.GaussianBlur(plain, (0, 0), 3)[y, x])
    spread = max(float(plain[head > 0].std()), 12)
    alike = np.exp(-np.square((cv2.GaussianBlur(plain, (0, 0), 1) - level) / (rng.uniform(1.2, 2.2) * spread)))
    return cv2.GaussianBlur((mask * alike * head).astype(np.float32), (0, 0), rng.uniform(0.6, 1.6))


def _clouds(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1, float32 (128, 128)."""
    field = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), sigma)
    return field / max(float(field.std()), 1e-6)


def box_mask(box: np.ndarray) -> np.ndarray:
    """Return the ellipse in a tumour's box (centre x, centre y, width, height in pixels), soft at the rim, uint8."""
    x, y, width, height = box
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    distance = np.hypot((columns - x) / max(width / 2, 2), (rows - y) / max(height / 2, 2))
    return (255 * np.clip((1.15 - distance) / 0.3, 0, 1)).astype(np.uint8)


def transplanted(image: np.ndarray, donor: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> Drawn:
    """With a real tumour out of the donor's box, turned, scaled and through a curve of its own, blended at the rim.

    The idea is CarveMix's (arXiv 2108.06883); here the recipient is a healthy head of another source and sequence.
    """
    head = cv2.erode((cv2.blur(image, (9, 9)) > 25).astype(np.uint8), np.ones((19, 19), np.uint8), borderValue=0)
    places = np.argwhere(head)
    if len(places) < 200 or min(box[2:]) < 6:
        return image, np.zeros_like(image)
    y, x = places[rng.integers(len(places))]
    matrix = cv2.getRotationMatrix2D(
        (float(box[0]), float(box[1])), rng.uniform(0, 360), np.exp(rng.uniform(-0.4, 0.3))
    )
    matrix[:, 2] += np.array([x, y]) - box[:2]
    mask = cv2.warpAffine(box_mask(box), matrix, (SIDE, SIDE)).astype(np.float32) / 255
    mask *= cv2.dilate(head, np.ones((7, 7), np.uint8)) * (cv2.warpAffine(donor, matrix, (SIDE, SIDE)) > 8)
    if mask.sum() < 40:
        return image, np.zeros_like(image)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.2), np.float32)
    tissue, usual = float(np.median(image[head > 0])), float(np.median(donor[donor > 8]))
    contrast = cv2.warpAffine(donor.astype(np.float32) - usual, matrix, (SIDE, SIDE))
    gain = rng.uniform(0.6, 1.4) * (1 if rng.random() < 0.7 else -1)
    if rng.random() < 0.4:
        image = _pushed(image, x, y, float(box[2:].mean()) / 2, rng)
    new = np.clip(tissue + gain * contrast, 4, 255)
    return np.clip(image + mask * (new - image), 0, 255).astype(np.uint8), (255 * (mask > 0.5)).astype(np.uint8)


def without_enhancement(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A T1 with contrast as if taken before the contrast: what enhances in the mask is grey or dark, vessels are not.

    `mask` is uint8, such as `box_mask`'s.
    """
    plain = image.astype(np.float32)
    inside = image > 20
    tissue = float(np.median(image[inside])) if inside.any() else 0.0
    target = tissue * rng.uniform(0.75, 1.0)
    enhanced = np.maximum(plain - target, 0)
    weight = np.clip(cv2.GaussianBlur(cv2.dilate(mask, np.ones((9, 9), np.uint8)), (0, 0), 2) / 255, 0, 1)
    drawn = plain - weight * enhanced * rng.uniform(0.75, 1.0)
    thin = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, np.ones((7, 7), np.uint8)).astype(np.float32)
    return np.clip(drawn - rng.uniform(0.3, 0.9) * thin * (plain > 1.3 * tissue), 0, 255).astype(np.uint8)


def with_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A healthy T1 as if contrast had been given: vessels, dura and mucosa are bright, nothing else is."""
    size = int(rng.choice([5, 7, 9]))
    thin = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    sparse = cv2.GaussianBlur((_clouds(rng, 5) > rng.uniform(-0.3, 0.8)).astype(np.float32), (0, 0), 2)
    bright = image + rng.uniform(1, 4) * thin.astype(np.float32) * sparse
    if rng.random() < 0.5:
        head = (cv2.blur(image, (5, 5)) > 20).astype(np.uint8)
        rim = head - cv2.erode(head, np.ones((3, 3), np.uint8), borderValue=0)
        bright += cv2.GaussianBlur(rim.astype(np.float32), (0, 0), 0.8) * sparse * rng.uniform(40, 160)
    return np.clip(bright, 0, 255).astype(np.uint8)


def look_alike(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With what is no tumour and reminds of a drawn one: one of caps, spots, pushed tissue, a blurred place."""
    head = cv2.erode((cv2.blur(image, (9, 9)) > 25).astype(np.uint8), np.ones((19, 19), np.uint8), borderValue=0)
    places = np.argwhere(head)
    if len(places) < 200:
        return image
    y, x = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        return _spotted(image, places, rng)
    if kind == 1:
        return _capped(image, head, rng)
    if kind == 2:
        return _pushed(image, x, y, rng.uniform(6, 20), rng)
    blob = _blob(x, y, rng.uniform(6, 20), rng)
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 2.5)).astype(np.float32)
    return np.clip(image + blob * (soft - image), 0, 255).astype(np.uint8)


def _spotted(image: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With many small bright or dark spots, as in multiple sclerosis and old age."""
    gain = rng.uniform(20, 90) * (1 if rng.random() < 0.75 else -1)
    spots = np.zeros((SIDE, SIDE), np.float32)
    for y, x in places[rng.integers(len(places), size=rng.integers(3, 14))]:
        axes = tuple(int(v) for v in rng.integers(1, 4, 2))
        cv2.ellipse(spots, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    return np.clip(image + gain * cv2.GaussianBlur(spots, (0, 0), 0.7), 0, 255).astype(np.uint8)


def _capped(image: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With bright places on both sides of the middle line, as round the ventricles in old age."""
    rows, columns = np.nonzero(head)
    middle, height = columns.mean(), rows.mean()
    reach, rise, radius = rng.uniform(8, 18), rng.uniform(-18, 18), rng.uniform(3, 8)
    gain = rng.uniform(25, 80)
    caps = sum(_blob(middle + side * reach, height + rise, radius, rng) for side in (-1, 1))
    return np.clip(image + gain * np.clip(caps, 0, 1) * head, 0, 255).astype(np.uint8)


def visible(image: np.ndarray, mask: np.ndarray) -> bool:
    """Return whether a lesion (mask uint8, the image's size) can be seen: large enough and unlike the ring round it."""
    inside = mask > 127
    side = image.shape[0]
    if inside.sum() < 40 * (side / SIDE) ** 2:
        return False
    ring = (cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & ~(mask > 0) & (image > 8)
    if ring.sum() < 8:
        return True
    around = image[ring].astype(np.float32)
    return abs(float(image[inside].mean()) - float(around.mean())) >= CONTRAST * max(float(around.std()), 4.0)
