"""Every command says what it is for, and refuses in a sentence what it cannot do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import asked_for_help
from tests.support.servers import ROOT

FOLDERS = ("shared", "functions", "services", "dashboard", "local", "tests")
NO_COMMAND = {"tests.terraform.cloud_commands"}
"""Stands for gcloud and terraform, and takes their arguments."""
NOT_OURS = ("gdcm", "SimpleITK", "litserve")
"""Packages that only a comparison needs, and that are not always installed."""


def commands() -> list[str]:
    """Every module that `python -m` runs."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    guarded = [file for file in files if '\nif __name__ == "__main__":' in file.read_text()]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for file in guarded]
    return [name for name in names if name not in NO_COMMAND]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_every_package_that_is_run_is_among_the_commands() -> None:
    """Otherwise the search could find less than there is."""
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in ROOT.glob("[!.]*/**/__main__.py")}
    assert packages <= set(commands())
    assert len(commands()) > 30


@pytest.mark.parametrize("module", commands())
def test_help_helps(module: str) -> None:
    done = asked_for_help(module)
    if any(f"No module named '{package}'" in done.errors for package in NOT_OURS):
        pytest.skip("compares with a package that is not installed here")
    assert (done.status, "usage:" in done.output) == (0, True), done.errors
    assert not done.loaded, "somebody who asks for help waits seconds for nothing"


@pytest.mark.parametrize("target", ["train", "crossvalidate", "preprocess"])
@pytest.mark.parametrize(
    ("data", "sentence"), [("", "Say which folder holds the scans"), ("nowhere", "nowhere is not a folder")]
)
def test_a_target_that_needs_data_asks_for_it(target: str, data: str, sentence: str) -> None:
    done = run("make", "--old-file=.local/uv/bin/uv", target, f"DATA={data}")
    assert done.returncode == 2
    assert sentence in done.stdout
    assert f"make {target} DATA=folder" in done.stdout


@pytest.mark.parametrize("command", ["train", "crossvalidate"])
def test_fits_without_a_start_in_common_are_not_averaged(tmp_path: Path, command: str) -> None:
    done = run(sys.executable, "-m", "services.training", command, "--data", str(tmp_path), "--fits", "2")
    assert done.returncode == 1
    assert "give --start" in done.stderr


@pytest.mark.parametrize("command", ["train", "crossvalidate", "finetune", "leaderboard", "shadow"])
def test_a_folder_that_is_none_is_told_before_tensorflow_loads(command: str) -> None:
    done = run(sys.executable, "-X", "importtime", "-m", "services.training", command, "--data", "nowhere")
    assert done.returncode == 2
    assert "argument --data: nowhere is not a folder" in done.stderr
    assert " tensorflow\n" not in done.stderr


def test_a_port_that_is_none_is_told() -> None:
    done = run(sys.executable, "-m", "services.inference", PORT="abc")
    assert done.returncode == 1
    assert done.stderr.strip() == "PORT=abc is not a port: give a number from 1 to 65535."
