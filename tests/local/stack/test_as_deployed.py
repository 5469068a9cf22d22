"""A function here imports what it will have in the cloud, and nothing else that happens to be installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack.as_deployed import VARIABLE, not_deployed
from tests.support.servers import ROOT

REQUIREMENTS = ROOT / "functions" / "record_scan" / "requirements.txt"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A module that imports what it is told to, and says so."""
    (tmp_path / "program.py").write_text("import importlib, sys\nprint(importlib.import_module(sys.argv[1]).__name__)")
    return tmp_path


def run(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {VARIABLE: not_deployed(REQUIREMENTS), "PYTHONPATH": f"{ROOT}:{folder}"}
    command = [sys.executable, "-m", "local.stack.as_deployed", "program", module]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["google.cloud.bigquery", "functions_framework", "json", "shared.events"])
def test_what_is_deployed_is_imported(program: Path, module: str) -> None:
    done = run(program, module)
    assert done.stdout.strip() == module, done.stderr


@pytest.mark.parametrize("module", ["pandas", "tensorflow", "pytest"])
def test_what_is_installed_here_alone_is_not_found(program: Path, module: str) -> None:
    done = run(program, module)
    assert done.returncode == 1
    assert f"No module named '{module}'" in done.stderr
