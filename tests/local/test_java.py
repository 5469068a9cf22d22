"""Spark's Java: whatever stands in for it answers to the flags that Spark passes."""

import subprocess
from pathlib import Path

import pytest

from local import java


def test_shim_runs_the_wheels_java_without_the_module_it_lacks(tmp_path: Path) -> None:
    home = java._shim_home(tmp_path)
    command = [home / "bin" / "java", "--add-modules=jdk.incubator.vector", "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Runtime Environment" in answer.stderr


def test_shim_is_taken_where_no_java_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.java_home(tmp_path) == tmp_path
    assert (tmp_path / "bin" / "java").exists()
