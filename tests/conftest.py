"""What every test may ask for."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real scans and malformed files, which are never committed."""
    folder = Path(os.environ.get("SCANFLOW_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no scans at {folder}; set SCANFLOW_DATA to a folder that holds them")
    return folder
