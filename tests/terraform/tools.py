"""Tools that the proofs run but the project does not import: each in its own environment under .local/tools."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".local" / "tools"


def uv() -> str:
    """The uv that made this environment."""
    beside = Path(sys.executable).parent / "uv"
    return os.environ.get("UV") or (str(beside) if beside.exists() else "") or shutil.which("uv") or "uv"
