"""Result objects are checked by what others wrote: dciodvfy of dicom3tools, tid1500reader of dcmqi."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from shared.results.headers import encoded
from shared.results.heat_map_image import HeatMap

BIN = Path(sys.executable).parent


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[Dataset], set[str]]:
    """What dciodvfy finds wrong with a result object."""

    def found(result: Dataset) -> set[str]:
        file = tmp_path / "result.dcm"
        file.write_bytes(encoded(result))
        output = subprocess.run([BIN / "dciodvfy", file], capture_output=True, text=True, check=False)
        return {line for line in (output.stdout + output.stderr).splitlines() if line.startswith("Error")}

    return found


@pytest.fixture
def heat_maps() -> list[HeatMap]:
    """An explanation whose evidence lies in one cell, three times."""
    values = np.full((16, 16), -0.1, np.float32)
    values[4, 12] = 1
    image = np.full((233, 197), 90, np.uint8)
    return [HeatMap(image=image, values=values, left=-18, top=0, side=233)] * 3


def as_read(result: Dataset) -> Dataset:
    """The result as somebody reads it back from its file."""
    return dcmread(io.BytesIO(encoded(result)))
