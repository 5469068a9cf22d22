"""The house as it was drawn: imports point one way, and every step has its four parts."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack.terraform_config import ROOT, declared

DEPLOYABLES = ("functions", "services", "dashboard", "local")


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def room(file: Path) -> str:
    """The deployable that a file belongs to: `functions/x` and `services/x` are one each."""
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] in {"functions", "services"} else parts[0]


def is_of(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("file", files("shared"), ids=str)
def test_the_domain_imports_no_deployable_and_no_cloud(file: Path) -> None:
    foreign = [name for name in imports(file) if is_of(name, *DEPLOYABLES)]
    assert not foreign
    if "gcp" not in file.parts:
        assert not [name for name in imports(file) if is_of(name, "google", "shared.gcp")]


@pytest.mark.parametrize("file", [f for folder in DEPLOYABLES for f in files(folder)], ids=str)
def test_no_deployable_imports_another(file: Path) -> None:
    own = room(file).replace("/", ".")
    assert not [name for name in imports(file) if is_of(name, *DEPLOYABLES) and not is_of(name, own)]


@pytest.mark.parametrize("file", [f for folder in DEPLOYABLES[:3] for f in files(folder)], ids=str)
def test_only_shared_gcp_imports_google_clients(file: Path) -> None:
    assert not [name for name in imports(file) if is_of(name, "google")]


@pytest.mark.parametrize("file", [f for folder in ("shared", *DEPLOYABLES) for f in files(folder)], ids=str)
def test_only_training_loads_tensorflow(file: Path) -> None:
    if room(file) != "services/training":
        assert not [name for name in imports(file) if is_of(name, "tensorflow", "keras")]


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
