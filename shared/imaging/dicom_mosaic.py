"""Siemens mosaics: the slices of a volume as tiles of one frame."""

import math
import re
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from shared.imaging.dicom_dataset import CSA_HEADER, MOSAIC_IMAGES, SIEMENS_CREATORS
from shared.imaging.dicom_values import numbers, optional, words
from shared.imaging.intensity import Pixels


@dataclass(frozen=True, slots=True)
class Mosaic:
    """A square grid of tiles, filled row by row; those behind the last slice are empty."""

    slices: int
    rows: int
    """Of the whole frame."""
    columns: int

    @property
    def grid(self) -> int:
        """Return the tiles in a row, and in a column."""
        return math.ceil(math.sqrt(self.slices))

    @property
    def tile(self) -> tuple[int, int]:
        """Return height and width of a slice."""
        return self.rows // self.grid, self.columns // self.grid

    def split(self, frame: Pixels) -> list[Pixels]:
        """Return the slices of a frame (h, w)."""
        height, width = self.tile
        places = (divmod(number, self.grid) for number in range(self.slices))
        corners = [(row * height, column * width) for row, column in places]
        return [frame[top : top + height, left : left + width] for top, left in corners]

    def positions_mm(self, dataset: Dataset) -> tuple[float | None, ...]:
        """Return each slice's place along the normal; empty without geometry.

        The file's position is the corner that a single slice as large as the frame would have; the first slice's
        corner lies half a frame less half a tile further in (dcm2niix, "Siemens mosaic"). The normal may point either
        way, so places are true up to their direction.
        """
        cosines, corner = numbers(dataset, "ImageOrientationPatient"), numbers(dataset, "ImagePositionPatient")
        step = optional(dataset, "SpacingBetweenSlices") or optional(dataset, "SliceThickness")
        if len(cosines) != 6 or len(corner) != 3 or None in (*cosines, *corner) or not step:
            return ()
        across, down = np.array(cosines[:3], np.float64), np.array(cosines[3:], np.float64)
        start = float(np.cross(across, down) @ np.array(corner, np.float64))  # moving within the plane changes nothing
        return tuple(round(start + number * step, 3) for number in range(self.slices))


def mosaic_of(dataset: Dataset, rows: int, columns: int) -> Mosaic | None:
    """Return the grid of a Siemens mosaic; None for any other object, and where tiles would not fit."""
    if "MOSAIC" not in words(dataset, "ImageType"):
        return None
    mosaic = Mosaic(_slices(dataset), rows, columns)
    fits = 1 < mosaic.slices <= 1024 and rows % mosaic.grid == 0 and columns % mosaic.grid == 0
    return mosaic if fits else None


def _slices(dataset: Dataset) -> int:
    """Number of images in the mosaic: an element of its own, or in the CSA header."""
    own = _bytes(dataset, MOSAIC_IMAGES, SIEMENS_CREATORS[0])
    csa = _bytes(dataset, CSA_HEADER, SIEMENS_CREATORS[1])
    if len(own) == 2:
        return int.from_bytes(own, "little")
    found = re.search(rb"NumberOfImagesInMosaic\0.{0,200}?(\d+)\s*\0", csa, re.DOTALL)
    return int(found[1]) if found else 0


def _bytes(dataset: Dataset, tag: int, creator: tuple[int, int]) -> bytes:
    if creator not in dataset or b"SIEMENS" not in str(dataset.get_item(creator).value).upper().encode():
        return b""
    element = dataset.get_item(tag) if tag in dataset else None
    return element.value if element is not None and isinstance(element.value, bytes) else b""
