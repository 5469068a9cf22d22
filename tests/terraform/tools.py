"""Tools that the proofs run but the project does not import: each in an environment of its own under .local/tools."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".local" / "tools"


def uv(*arguments: str | Path) -> None:
    """Run the project's uv. Raises subprocess.CalledProcessError."""
    command = os.environ.get("UV") or ROOT / ".local" / "uv" / "bin" / "uv"
    variables = os.environ | {"UV_COMPILE_BYTECODE": "0"}  # what runs once need not be compiled
    subprocess.run([command, *arguments], check=True, capture_output=True, env=variables)


def environment(name: str, *requirements: str) -> Path:
    """Virtual environment `.local/tools/<name>` that holds these lines of requirements; return its bin folder.

    It is made at first use.
    """
    folder = CACHE / name
    stamp = folder / "requirements"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        uv("venv", "--quiet", "--clear", "--python", sys.executable, folder)
        (folder / "wanted.txt").write_text(wanted)
        uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", "--requirement", folder / "wanted.txt")
        stamp.write_text(wanted)
    return folder / "bin"
