"""Contact sheets by which labels are read again: nothing on them tells source, split or what a model says."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from services.training.data.scans import Scans

COLUMNS, ROWS = 6, 5
"""Pictures on a sheet."""
_PICTURE, _CAPTION = 240, 14


def write(scans: Scans, copies: np.ndarray, folder: Path) -> pd.DataFrame:
    """Write one scan of each group of copies to `folder`/sheet-NNN.png, a number under each, and index.csv.

    Return what index.csv holds: sheet, number, scan_id. It is for afterwards: a reader who looks at it is not blind.
    """
    rows = drawn(scans.table["scan_id"].to_numpy(str), copies)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(len(rows))
    sheets = numbers // (COLUMNS * ROWS)
    for sheet in np.unique(sheets):
        on_it = sheets == sheet
        _sheet(scans.images[rows[on_it]], numbers[on_it] + 1).save(folder / f"sheet-{sheet + 1:03d}.png")
    ids = scans.table["scan_id"].to_numpy()[rows]
    index = pd.DataFrame({"sheet": sheets + 1, "number": numbers + 1, "scan_id": ids})
    index.to_csv(folder / "index.csv", index=False)
    return index


def drawn(scan_ids: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return the position of one scan of each group of copies, in the order of a hash of their ids."""
    order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in scan_ids])
    _, first = np.unique(copies[order], return_index=True)
    return order[np.sort(first)]


def _sheet(images: np.ndarray, numbers: np.ndarray) -> Image.Image:
    """Prepared images in rows, enlarged, with their numbers."""
    height = _PICTURE + _CAPTION
    sheet = Image.new("L", (COLUMNS * _PICTURE, -(-len(images) // COLUMNS) * height))
    draw = ImageDraw.Draw(sheet)
    for place, (image, number) in enumerate(zip(images, numbers, strict=True)):
        left, top = place % COLUMNS * _PICTURE, place // COLUMNS * height
        sheet.paste(Image.fromarray(image).resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS), (left, top))
        draw.text((left + _PICTURE // 2, top + _PICTURE), str(number), fill=255, anchor="ma")
    return sheet
