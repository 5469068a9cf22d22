"""Every command says what it is for, and refuses in a sentence what it cannot do."""

import os
import subprocess
import sys

import pytest

from tests.support.servers import ROOT

COMMANDS = (
    "local",
    "local.clean",
    "local.preprocess",
    "local.emulators.bigquery",
    "local.emulators.dataproc",
    "local.emulators.pubsub",
    "local.emulators.scheduler",
    "services.gateway",
    "services.inference",
    "services.preprocessing",
    "services.training",
    "services.upload",
    "tests.benchmarks.pipeline",
    "tests.chaos",
    "tests.smoke",
)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_helps(module: str) -> None:
    done = run(sys.executable, "-m", module, "--help")
    assert (done.returncode, "usage:" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("target", ["train", "crossvalidate", "preprocess"])
@pytest.mark.parametrize(
    ("data", "sentence"), [("", "Say which folder holds the scans"), ("nowhere", "nowhere is not a folder")]
)
def test_a_target_that_needs_data_asks_for_it(target: str, data: str, sentence: str) -> None:
    done = run("make", "--old-file=.local/uv/bin/uv", target, f"DATA={data}")
    assert done.returncode == 2
    assert sentence in done.stdout
    assert f"make {target} DATA=folder" in done.stdout


def test_a_port_that_is_none_is_told() -> None:
    done = run(sys.executable, "-m", "services.inference", PORT="abc")
    assert done.returncode == 1
    assert done.stderr.strip() == "PORT=abc is not a port: give a number from 1 to 65535."
