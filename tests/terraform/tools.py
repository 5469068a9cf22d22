"""Tools that the proofs run but the project does not import: each in an environment of its own under .local/tools."""

import fcntl
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".local" / "tools"


def uv(*arguments: str | Path) -> None:
    """Run the project's uv. Raises subprocess.CalledProcessError."""
    command = os.environ.get("UV") or ROOT / ".local" / "uv" / "bin" / "uv"
    variables = os.environ | {"UV_COMPILE_BYTECODE": "0"}  # what runs once need not be compiled whole
    subprocess.run([command, *arguments], check=True, capture_output=True, env=variables)


def environment(name: str, *requirements: str) -> Path:
    """Virtual environment `.local/tools/<name>` that holds these lines of requirements; return its bin folder.

    It is made at first use, by one process at a time.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _made(CACHE / name, requirements)


def _made(folder: Path, requirements: Sequence[str]) -> Path:
    stamp = folder / "requirements"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        uv("venv", "--quiet", "--clear", "--python", sys.executable, folder)
        (folder / "wanted.txt").write_text(wanted)
        uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", "--requirement", folder / "wanted.txt")
        _share_bytecode(next(folder.glob("lib/python*/site-packages")))
        stamp.write_text(wanted)
    return folder / "bin"


def _share_bytecode(packages: Path) -> None:
    """Link the bytecode of files that this environment has too: to compile them takes longer than to start a server."""
    ours = Path(sysconfig.get_path("purelib"))
    for module in packages.rglob("__init__.py"):
        same = ours / module.relative_to(packages)
        compiled = same.with_name("__pycache__")
        if compiled.is_dir() and same.samefile(module):  # uv links both to its cache
            module.with_name("__pycache__").symlink_to(compiled)
