"""A short drill: `make chaos` runs longer ones."""

import shutil
from pathlib import Path

import pytest

from tests.chaos.drill import drill


@pytest.mark.drill
def test_whatever_dies_every_upload_ends_once_after_one_reconcile(tmp_path: Path) -> None:
    result = drill(tmp_path, seed=1, uploads=60, jumps=bool(shutil.which("cc")))
    assert result.disturbances["kills"] > 0
    assert result.account.missing == []
    assert result.account.doubled == []
    assert result.account.contradicted == []
    assert result.account.altered == []
