"""What a scan may meet on its way to a file, at a fixed strength: how much of the accuracy survives it."""

from collections.abc import Callable

import cv2
import numpy as np

from shared.imaging.preprocessing import SIDE, prepare


def _turned(image: np.ndarray, degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), degrees, 1)
    return cv2.warpAffine(image, matrix, (SIDE, SIDE))


def _noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 10, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray) -> np.ndarray:
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


def _sharpened(image: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(image, 2.5, cv2.GaussianBlur(image, (0, 0), 1.0), -1.5, 0)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    "blur, sigma 1": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0),
    "noise, sigma 10 of 255": _noisy,
    "JPEG, quality 25": _jpeg,
    "brightness x 1.5": lambda image: cv2.convertScaleAbs(image, alpha=1.5),
    "brightness x 0.6": lambda image: cv2.convertScaleAbs(image, alpha=0.6),
    "rotation by 15 degrees": lambda image: _turned(image, 15),
    "rotation by 90 degrees": lambda image: np.ascontiguousarray(np.rot90(image)),
    "flip": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "sharpening, 150% at sigma 1": _sharpened,
    "CLAHE, clip 3, 8 x 8 tiles": lambda image: cv2.createCLAHE(3.0, (8, 8)).apply(image),
    "inversion": cv2.bitwise_not,
}
"""Each takes a prepared image, uint8 (128, 128), as if it were the file; strengths as in the project's first probe."""


def changed(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Prepared images, uint8 (n, 128, 128), changed and prepared once more."""
    return np.stack([np.rint(prepare(change(image))[..., 0] * 255).astype(np.uint8) for image in images])
