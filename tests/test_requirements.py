"""Each deployable's requirements.txt is what the lock says."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for pattern in ("functions/*", "services/*", "dashboard") for path in ROOT.glob(f"{pattern}/requirements.txt")
)
UV = ROOT / ".local" / "uv" / "bin" / "uv"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_requirements_are_those_of_the_lock(file: Path) -> None:
    if not UV.exists():
        pytest.skip("the project's own uv is installed by make; run the tests with `make test`")
    group = file.parent.name.replace("_", "-")
    command = [
        UV,
        "export",
        "--quiet",
        "--frozen",
        "--no-annotate",
        "--no-header",
        "--only-group",
        group,
    ]
    exported = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    assert file.read_text() == exported.stdout, f"stale: run `make requirements` and commit {file.relative_to(ROOT)}"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_every_package_is_named_with_its_hashes(file: Path) -> None:
    """With one hash in the file pip asks for the hash of every package: a registry cannot slip in another file."""
    packages = file.read_text().replace("\\\n", " ").splitlines()
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []


DOCKERFILES = sorted([*ROOT.glob("services/*/Dockerfile"), ROOT / "dashboard" / "Dockerfile"])


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_installs_nothing_but_what_is_locked(file: Path) -> None:
    text = file.read_text().replace("\\\n", " ")
    installs = [line for line in text.replace("&&", "\n").splitlines() if "pip" in line and " install" in line]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line or "--no-deps" not in line] == []
