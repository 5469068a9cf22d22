"""What another scanner, site or file format might have made of the same head, drawn at random.

Every class gets the same: an operation that only one class had been through would be a shortcut (FDA and CLAIM call it
a confounder). Each operation takes and returns a prepared image, uint8 (128, 128), black outside the head.
"""

from collections.abc import Callable

import cv2
import numpy as np

from shared.imaging.preprocessing import SIDE, stretched

Operation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image elsewhere in the frame and in other tones."""
    return retoned(placed(image, rng), rng)


def placed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a random choice of `PLACING`; also a stack (128, 128, n), such as an image with its lesion's mask."""
    return _chosen(PLACING, image, rng)


def retoned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a random choice of `RETONING`, stretched as `prepare` would have left it."""
    return stretched(_chosen(RETONING, image, rng))


def _chosen(operations: list[tuple[Operation, float]], image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for operation, probability in operations:
        if rng.random() < probability:
            image = operation(image, rng)
    return image


def oriented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored and turned by quarters; upside down more often, as one whole source of healthy heads stands."""
    turned = np.rot90(image, rng.choice([1, 2, 2, 3])) if rng.random() < 0.5 else image
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by up to 20 degrees, scaled, stretched in one direction (some copies of the data lost their aspect)."""
    angle, scale = np.deg2rad(rng.uniform(-20, 20)), np.exp(rng.uniform(-0.25, 0.12))
    aspect = np.exp(rng.uniform(-0.12, 0.12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.diag([aspect, 1 / aspect])
    middle = np.full(2, SIDE / 2)
    shift = middle - matrix @ middle + rng.uniform(-8, 8, 2)
    return cv2.warpAffine(image, np.column_stack([matrix, shift]), (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def recurved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a random intensity curve that keeps black: mostly rising, at times not, as between MR sequences.

    In public data T1 with contrast means tumour and T2 means none; see Zhou et al., Models Genesis (arXiv 1908.06912).
    """
    knots = np.linspace(0, 1, 6)
    heights = rng.uniform(0, 1, 6)
    if rng.random() < 0.6:
        heights.sort()
        heights = 0.5 * heights + 0.5 * knots ** np.exp(rng.uniform(-0.7, 0.7))
    heights[0] = 0
    levels = np.interp(np.linspace(0, 1, 256), knots, heights)
    levels = cv2.GaussianBlur(levels[None], (41, 1), 10, borderType=cv2.BORDER_REPLICATE)[0]
    levels[:6] *= np.linspace(0, 1, 6)
    return cv2.LUT(image, np.rint(255 * levels / max(levels.max(), 0.1)).astype(np.uint8))


def convolved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a shallow network with random weights, mixed with the image: another contrast of the same anatomy.

    Global intensity non-linear augmentation (Ouyang et al., arXiv 2111.12525), with two layers of two channels.
    """
    plain = image.astype(np.float32)
    layers = [plain]
    for _ in range(2):
        filtered = [np.sum([cv2.filter2D(one, -1, _kernel(rng)) for one in layers], axis=0) for _ in range(2)]
        layers = [np.maximum(one, 0.2 * one) for one in filtered]
    new = np.sum([float(rng.normal()) * one for one in layers], axis=0)
    share = float(rng.uniform(0.3, 1))
    mixed = share * new * (np.linalg.norm(plain) / max(float(np.linalg.norm(new)), 1e-6)) + (1 - share) * plain
    inside = mixed[image > 8]
    low, high = np.percentile(inside, [1, 99]) if inside.size else (0.0, 1.0)
    bright = np.clip((mixed - low) / max(high - low, 1e-6), 0.03, 1) * 255
    return np.where(image > 8, bright, image).astype(np.uint8)


def _kernel(rng: np.random.Generator) -> np.ndarray:
    side = int(rng.choice([1, 3]))
    return rng.normal(0, 1, (side, side)).astype(np.float32)


def with_amplitude_of(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With some of another scan's low-frequency amplitude: its style without its anatomy (FDA, arXiv 2004.05498)."""
    spectrum, style = np.fft.rfft2(image.astype(np.float32)), np.fft.rfft2(other.astype(np.float32))
    reach, share = int(rng.integers(1, 6)), rng.uniform(0.2, 1)
    near = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))[:, None] <= reach
    low = near & (np.arange(SIDE // 2 + 1) <= reach)
    amplitude = np.abs(spectrum)
    mixed = np.where(low, (1 - share) * amplitude + share * np.abs(style), amplitude)
    changed = np.fft.irfft2(mixed * np.exp(1j * np.angle(spectrum)), (SIDE, SIDE))
    return np.where(image > 8, np.clip(changed, 8, 255), image).astype(np.uint8)


def gained(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter or darker and clipped, as a window set too narrow leaves it."""
    return cv2.convertScaleAbs(image, alpha=np.exp(rng.uniform(-0.4, 0.5)), beta=rng.uniform(-20, 5))


def shaded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter on one side, as by the coil's sensitivity."""
    field = cv2.resize(rng.uniform(-0.5, 0.5, (3, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(image * np.exp(field), 0, 255).astype(np.uint8)


def equalised(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation, which viewers and earlier authors apply."""
    tiles = int(rng.integers(2, 9))
    return cv2.createCLAHE(rng.uniform(1, 4), (tiles, tiles)).apply(image)


def sharpened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unsharp masking: in public data nearly only images without a tumour went through it."""
    amount = rng.uniform(0.5, 3)
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 2)), -amount, 0)


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, as resampling leaves it."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))


def coarsened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From a smaller matrix."""
    side = int(rng.integers(44, 112))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(
        small, (SIDE, SIDE), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST]))
    )


def compressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through JPEG."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With Rician noise: the magnitude of a complex signal with normal noise (Gudbjartsson and Patz 1995)."""
    real, imaginary = rng.normal(0, rng.uniform(2, 18), (2, SIDE, SIDE))
    return np.clip(np.hypot(image + real, imaginary), 0, 255).astype(np.uint8)


def stripped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without the outer ring of the head, roughly what skull stripping leaves, enlarged to fill the image again."""
    head = cv2.copyMakeBorder((image > 20).astype(np.uint8), 32, 32, 32, 32, cv2.BORDER_CONSTANT, value=0)
    ring = 2 * int(rng.integers(6, 11)) + 1
    closed = cv2.morphologyEx(head, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31)))
    inner = cv2.erode(closed, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (ring, ring)))[32:-32, 32:-32]
    x, y, width, height = cv2.boundingRect(inner)
    if min(width, height) < SIDE // 2:
        return image
    side = max(width, height)
    matrix = np.array([[1, 0, (side - width) / 2 - x], [0, 1, (side - height) / 2 - y]]) * (SIDE / side)
    return cv2.warpAffine(image * inner, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def lettered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With letters burnt in beside the head, or a frame round it."""
    marked = image.copy()
    if rng.random() < 0.3:
        return cv2.rectangle(marked, (0, 0), (SIDE - 1, SIDE - 1), int(rng.integers(120, 256)), int(rng.integers(1, 3)))
    for _ in range(rng.integers(1, 4)):
        text = "".join(chr(rng.integers(48, 91)) for _ in range(rng.integers(1, 7)))
        corner = int(rng.choice([2, 90])), int(rng.choice([8, 16, 122]))
        cv2.putText(marked, text, corner, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.2, 0.4), int(rng.integers(120, 256)))
    return marked


PLACING: list[tuple[Operation, float]] = [(oriented, 1.0), (moved, 0.85)]
RETONING: list[tuple[Operation, float]] = [
    (convolved, 0.12),
    (recurved, 0.5),
    (shaded, 0.25),
    (equalised, 0.2),
    (coarsened, 0.25),
    (blurred, 0.2),
    (sharpened, 0.3),
    (gained, 0.3),
    (noisy, 0.25),
    (lettered, 0.1),
    (compressed, 0.35),
]
"""With the probability of each, in the order in which a scan meets them on its way to a file.

`stripped` is not among them: it would take the tumours at the skull away, so `train` applies it by class.
"""
