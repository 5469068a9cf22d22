"""The architecture as it was drawn: imports point one way, and every step has its four parts."""

import subprocess
import sys
from pathlib import Path

from local.stack.terraform_config import ROOT, declared


def test_imports_keep_the_contracts_of_pyproject() -> None:
    """The contracts themselves stand under [tool.importlinter]."""
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run(
        [linter, "--no-cache"], check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


def test_events_load_neither_pillow_nor_a_cloud_client() -> None:
    check = "import sys, shared.events; print(*sorted({'PIL', 'numpy', 'google.auth'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_every_step_has_code_requirements_wiring_and_a_test() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    assert folders == {path.parent.name for path in (ROOT / "functions").glob("*/requirements.txt")}
    assert folders == set(declared()["steps"]) | set(declared()["scheduled"])
    assert folders == {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "functions").glob("test_*.py")}


def test_shared_package_is_empty() -> None:
    assert (ROOT / "shared" / "__init__.py").read_text() == ""
