"""Out-of-distribution (OOD) images: pictures that are no brain MRI, to learn and to test their refusal.

Photographs and drawings come from packages that the project installs anyway; those to test on share no picture with
those to learn from. Other organs and CT are read from `not-brain-mri` beside the scans, where it is there.
"""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pydicom.data
import skimage.data
import sklearn.datasets

from shared.errors import RejectedScan
from shared.imaging import decoding, limits
from shared.imaging.preprocessing import SIDE, prepare

_LEARNT = [
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "clock_motion",
    "coins",
    "gravel",
    "horse",
    "hubble_deep_field",
    "ihc",
    "logo",
    "motorcycle_left",
    "page",
    "phantom",
    "color",
]
_TESTED = ["coffee", "grass", "microaneurysms", "moon", "motorcycle_right", "retina", "rocket", "text"]
_TESTED_BODIES = [
    "CT_small.dcm",
    "JPEG2000.dcm",
    "examples_ybr_color.dcm",
    "liver_1frame.dcm",
    "693_J2KI.dcm",
    "examples_rgb_color.dcm",
]


def to_learn(heads: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return prepared images, uint8 (count, 128, 128), to fit the refusal on. `heads` lend their silhouettes."""
    return _drawn(_photographs(_LEARNT), heads, count, rng)


def to_test(heads: np.ndarray, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return prepared images by kind, none of them seen by `to_learn`: `count` of each, and a few other bodies."""
    extra = [Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")]
    extra.append(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    photographs = _photographs(_TESTED) + [_grey(path.read_bytes()) for path in extra]
    return {
        "photographs": _many(lambda: _crop(photographs, rng), count),
        "photographs in a head's outline": _many(lambda: _outlined(_crop(photographs, rng), heads, rng), count),
        "text": _many(lambda: _page(rng), count),
        "noise": _many(lambda: _noise(rng), count),
        "scrambled scans": _many(lambda: _scrambled(heads, rng), count),
        "other bodies": np.stack([_prepared(picture) for picture in _bodies()]),
    }


FOLDER = "not-brain-mri"

_KINDS = {
    r"\d+_(axi|cor|sag)_\d+": "prostate MR",
    r"\d{4}_\d+": "spine MR",
    r"\d{6}": "head CT with bleeding",
    r"10(18[5-9]|19\d|20\d|21\d|22[0-4])": "head CT",
    r"\d{5}": "chest CT",
}
"""Kind by file name, the first that fits: nothing else says what the folder's images show."""


def read_real(data: Path) -> dict[str, np.ndarray]:
    """Return the prepared images of `data`/not-brain-mri by kind, uint8 (n, 128, 128); nothing if it is not there."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((data / FOLDER).glob("*")):
        kind = next((kind for name, kind in _KINDS.items() if re.fullmatch(name, path.stem)), "other")
        found.setdefault(kind, []).append(_prepared(decoding.decode(path.read_bytes()).pages[0]))
    return {kind: np.stack(images) for kind, images in found.items()}


def made_tomography(head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a prepared T1 as if taken by CT: a white rim of bone, hardly any contrast in the brain, skin darker."""
    bright = (cv2.GaussianBlur(head, (0, 0), 2) > 18).astype(np.uint8)
    inside = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31)))
    skin, bone = int(rng.integers(0, 4)), int(rng.integers(4, 11))
    outer = cv2.erode(inside, _disc(skin), borderValue=0)
    brain = cv2.erode(outer, _disc(bone), borderValue=0)
    level, contrast = rng.uniform(25, 150), rng.uniform(0.03, 0.25)
    smooth = cv2.GaussianBlur(head.astype(np.float32), (0, 0), rng.uniform(0.5, 1.5))
    usual = float(np.median(head[brain > 0])) if brain.any() else 0.0
    made = (level + contrast * (smooth - usual) + rng.normal(0, rng.uniform(1, 8), head.shape)) * brain
    made = np.where((outer > 0) & (brain == 0), rng.uniform(215, 255), made)
    made = np.where((inside > 0) & (outer == 0), level * rng.uniform(0.3, 0.9), made)
    return _prepared(np.clip(cv2.GaussianBlur(made.astype(np.float32), (0, 0), 0.6), 0, 255).astype(np.uint8))


def windowed(tomography: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a prepared CT as another window shows it: grey values spread about those of the brain, moved, and cut."""
    values, inside = tomography.astype(np.float32), tomography > 5
    middle = float(np.median(values[values > 20])) if (values > 20).any() else 60.0
    moved = (values - middle) * rng.uniform(0.4, 2.5) + middle + rng.uniform(-30, 60)
    return (np.clip(moved, 0, 255) * inside).astype(np.uint8)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _drawn(photographs: list[np.ndarray], heads: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    kinds = [
        lambda: _crop(photographs, rng),
        lambda: _crop(photographs, rng),
        lambda: _outlined(_crop(photographs, rng), heads, rng),
        lambda: _outlined(_crop(photographs, rng), heads, rng),
        lambda: _page(rng),
        lambda: _noise(rng),
        lambda: _outlined(_noise(rng), heads, rng),
        lambda: _scrambled(heads, rng),
        lambda: _shapes(rng),
    ]
    return np.concatenate([_many(kind, -(-count // len(kinds))) for kind in kinds])[:count]


def _many(make: Callable[[], np.ndarray], count: int) -> np.ndarray:
    return np.stack([_prepared(make()) for _ in range(count)])


def _prepared(picture: np.ndarray) -> np.ndarray:
    return np.rint(prepare(picture)[..., 0] * 255).astype(np.uint8)


def _photographs(names: list[str]) -> list[np.ndarray]:
    folder = Path(skimage.data.__file__).parent
    return [_grey(next(folder.glob(f"{name}.*g")).read_bytes()) for name in names]


def _bodies() -> list[np.ndarray]:
    """What of pydicom's sample files can be read as a picture, none of which shows a head from the side or above."""
    found = []
    for name in _TESTED_BODIES:
        content = Path(str(pydicom.data.get_testdata_file(name))).read_bytes()
        try:
            found += [page for page in decoding.decode(content).pages if min(page.shape[:2]) >= limits.MIN_SIDE]
        except RejectedScan:
            continue
    return found


def _grey(content: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE))


def _crop(pictures: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A part of a picture, a quarter of it to all, mirrored and turned at random."""
    picture = pictures[rng.integers(len(pictures))]
    height, width = (int(max(side * rng.uniform(0.25, 1), 40)) for side in picture.shape)
    y, x = (
        int(rng.integers(max(whole - part, 0) + 1)) for whole, part in zip(picture.shape, (height, width), strict=True)
    )
    return np.ascontiguousarray(
        np.rot90(picture[y : y + height, x : x + width], rng.integers(4))[:: rng.choice([1, -1])]
    )


def _outlined(picture: np.ndarray, heads: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture where a head is, black elsewhere: what looks at the outline alone takes it for a brain."""
    outline = cv2.morphologyEx(
        (heads[rng.integers(len(heads))] > 25).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15))
    )
    return np.maximum(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), 10) * outline


def _scrambled(heads: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan cut into tiles that are shuffled: the right texture without any anatomy."""
    tiles = int(rng.choice([3, 4, 6, 8]))
    side = SIDE // tiles
    head = cv2.resize(heads[rng.integers(len(heads))], (tiles * side, tiles * side))
    parts = head.reshape(tiles, side, tiles, side).swapaxes(1, 2).reshape(-1, side, side)
    return rng.permutation(parts).reshape(tiles, tiles, side, side).swapaxes(1, 2).reshape(tiles * side, tiles * side)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with some power of the frequency, from white noise to clouds."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)) + 1 / SIDE
    spectrum = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / frequency ** rng.uniform(0, 2.5)
    values = np.fft.irfft2(spectrum, (SIDE, SIDE))
    low, high = values.min(), values.max()
    return np.asarray((values - low) * (255 / (high - low)), np.uint8)


def _page(rng: np.random.Generator) -> np.ndarray:
    """Lines of letters, black on white or white on black."""
    page = np.zeros((256, int(rng.integers(200, 320))), np.uint8)
    size = rng.uniform(0.3, 1.2)
    for y in range(int(25 * size), 256, int(30 * size)):
        text = "".join(chr(rng.choice([32, rng.integers(65, 91), rng.integers(97, 123)])) for _ in range(60))
        cv2.putText(
            page, text, (int(rng.integers(2, 30)), y), int(rng.integers(0, 8)), size, 255, int(rng.integers(1, 3))
        )
    return 255 - page if rng.random() < 0.5 else page


def _shapes(rng: np.random.Generator) -> np.ndarray:
    """Ellipses, boxes and lines, as in drawings, phantoms and other organs."""
    picture = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(1, 12)):
        middle, axes = tuple(map(int, rng.integers(20, 108, 2))), tuple(map(int, rng.integers(3, 55, 2)))
        shade, thickness = int(rng.integers(30, 256)), int(rng.choice([-1, 1, 3]))
        if rng.random() < 0.6:
            cv2.ellipse(picture, middle, axes, float(rng.uniform(0, 180)), 0, 360, shade, thickness)
        else:
            cv2.rectangle(picture, middle, axes, shade, thickness)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 3))
