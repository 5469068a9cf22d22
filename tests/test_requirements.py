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
        "--no-hashes",
        "--no-annotate",
        "--no-header",
        "--only-group",
        group,
    ]
    exported = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    assert file.read_text() == exported.stdout, f"stale: run `make requirements` and commit {file.relative_to(ROOT)}"
