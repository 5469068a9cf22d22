"""What is told of public scans beside their label: person, sequence, plane, skull, and where the tumour lies."""

import csv
import re
from pathlib import Path

import numpy as np

from services.training.data.persons import hashed
from shared.imaging.preprocessing import SIDE

TOLD = ("sequence", "plane", "skull")
"""Columns of a scans' table that `sources.csv` or a file's name tells."""

Told = dict[str, str]

GLIOMAS = ("rsna-t1c", "brats-t2-flair")
"""Sources of gliomas only: both come from BraTS, which takes no other tumour."""

_PLANES = {"ax": "axial", "co": "coronal", "sa": "sagittal"}


def read_sources(folder: Path) -> dict[str, Told]:
    """Return person, person_from, sequence, plane and skull by file of `folder`/sources.csv; nothing without one.

    Columns file, source, person, sequence, skull. If a listed file has no person, its whole source counts as one
    person in every split, since nothing says who is in it.
    """
    path = folder / "sources.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as lines:
        return {row["file"]: _told(row) for row in csv.DictReader(lines)}


def told_by_name(name: str) -> Told:
    """Return what is known of a file that sources.csv does not list."""
    return {"person": "", "person_from": "", "sequence": "", "plane": plane_of(name), "skull": ""}


def plane_of(name: str) -> str:
    """Return axial, coronal or sagittal if a file's name says so (`_ax042`, `_co_t1`, `_sa+25`), else nothing."""
    found = re.findall(r"_(ax|co|sa)(?:[+-]?\d+|_t1)", Path(name).stem)
    return _PLANES[found[-1]] if found else ""


def _told(row: dict[str, str]) -> Told:
    person = row["person"] or row["source"]
    return {
        "person": hashed(person),
        "person_from": "told" if row["person"] else "source",
        "sequence": row["sequence"],
        "plane": plane_of(row["file"]),
        "skull": row["skull"],
    } | ({"type": "glioma"} if row["source"] in GLIOMAS else {})


def read_boxes(folder: Path) -> dict[str, np.ndarray]:
    """Return the tumour's box (centre x, centre y, width, height, as shares of the image) by image file.

    For `SOURCE/yes/NAME.jpg` it stands in `SOURCE/boxes/NAME.txt`, in YOLO's form; of several the largest counts.
    """
    found = {}
    for path in folder.glob("*/boxes/*.txt"):
        boxes = np.loadtxt(path, ndmin=2)
        if boxes.size:
            name = path.relative_to(folder).parts[0] + f"/yes/{path.stem}.jpg"
            found[name] = boxes[np.argmax(boxes[:, 3] * boxes[:, 4]), 1:5]
    return found


def box_in(box: np.ndarray | None, shape: tuple[int, ...], crop: tuple[int, int, int]) -> dict[str, float]:
    """Return a box as columns in pixels of the prepared image: box_x, box_y (its centre), box_width, box_height.

    `shape` is the page's and `crop` what `preprocessing.crop_box` says of it. Without a box all are 0.
    """
    names = ("box_x", "box_y", "box_width", "box_height")
    if box is None:
        return dict.fromkeys(names, 0.0)
    left, top, side = crop
    size = np.array([shape[1], shape[0], shape[1], shape[0]], float)
    scaled = (box * size - np.array([left, top, 0, 0])) * SIDE / side
    return dict(zip(names, scaled.tolist(), strict=True))
