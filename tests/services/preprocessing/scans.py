"""Scans for tests: slices of the template, each bent and toned differently, so that no two are alike."""

from collections.abc import Iterator

import cv2
import numpy as np

from local.samples import encode, healthy_slices
from shared.events import ScanAccepted
from shared.gcp import storage
from shared.ml import manifests
from tests.support.events import stored_scan


def pictures(count: int, seed: int = 5) -> Iterator[np.ndarray]:
    """Grey pictures uint8 (233, 197)."""
    random = np.random.default_rng(seed)
    slices = healthy_slices()
    for number in range(count):
        picture = slices[number % len(slices)]
        height, width = picture.shape
        bent = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-20, 20), random.uniform(0.8, 1.0))
        bent[:, 2] += random.uniform(-8, 8, 2)
        moved = cv2.warpAffine(picture, bent, (width, height))
        yield (255 * (moved / 255.0) ** random.uniform(0.6, 1.6)).astype(np.uint8)


def accepted(bucket: str, picture: np.ndarray, label: str) -> ScanAccepted:
    """The event of a scan, which then lies in `bucket`."""
    return stored_scan(bucket, encode(picture, "PNG"), label)


def write_manifest(bucket: str, events: list[ScanAccepted]) -> str:
    """Put a manifest of these scans into the prepared bucket; answers its id."""
    manifest, content = manifests.serialise(events)
    storage.create(bucket, manifests.manifest_object(manifest), content, "application/jsonl")
    return manifest
