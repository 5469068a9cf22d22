"""Terraform with the providers' schemas, but without the providers: their binaries are in no package index."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.terraform.provider_schema import PACKAGES, Schema, provider_schema
from tests.terraform.schema_provider import serve
from tests.terraform.tools import ROOT

Terraform = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def terraform() -> Iterator[Terraform]:
    """Run Terraform in a folder: `terraform(folder, "validate")`; skips where it is not installed."""
    if not (program := shutil.which("terraform")):
        pytest.skip("Terraform is not installed; see https://developer.hashicorp.com/terraform/install")
    serving = {name: serve(used_part(provider_schema(name))) for name in PACKAGES}
    reattach = {
        f"registry.terraform.io/hashicorp/{name}": _reattached(address) for name, (_, address) in serving.items()
    }
    variables = os.environ | {"TF_REATTACH_PROVIDERS": json.dumps(reattach), "CHECKPOINT_DISABLE": "1"}
    variables |= {"TF_CLI_CONFIG_FILE": os.devnull}

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program, f"-chdir={folder}", *arguments]
        return subprocess.run(command, check=False, env=variables, timeout=900, capture_output=True, text=True)

    yield run
    for server, _ in serving.values():
        server.stop(None)


def _reattached(address: str) -> dict[str, object]:
    """A provider that runs already, as Terraform's debugging interface has it."""
    where = {"Network": "tcp", "String": address}
    return {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": where}


Tested = Callable[[str], dict[str, list[dict]]]
"""Messages of a run of terraform/tests/<file> by type: `test_state` has what was applied, `test_plan` a plan."""


@pytest.fixture(scope="session")
def tested(terraform: Terraform, workspace: Path) -> Tested:
    """Run a file of terraform/tests/ once a session."""

    @cache
    def run(file: str) -> dict[str, list[dict]]:
        done = terraform(workspace, "test", "-json", "-verbose", f"-filter=tests/{file}")
        messages: dict[str, list[dict]] = {}
        for message in map(json.loads, done.stdout.splitlines()):
            messages.setdefault(message["type"], []).append(message)
        return messages

    return run


@pytest.fixture(scope="session")
def workspace(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, beside the folders that it reads, that has been initialised.

    The files of shared/ hold a line each: in every function's zip they would take Terraform most of its time.
    """
    copy = tmp_path_factory.mktemp("repository")
    for file in (ROOT / "shared").rglob("*.py"):
        short = copy / file.relative_to(ROOT)
        short.parent.mkdir(parents=True, exist_ok=True)
        short.write_text(f"# {short.name}\n")
    for part in ("functions", "services/inference/release"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (copy / part).symlink_to(ROOT / part)
    folder = shutil.copytree(ROOT / "terraform", copy / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    initialised = terraform(folder, "init", "-no-color")
    assert initialised.returncode == 0, initialised.stderr
    return folder


def used_part(schema: Schema) -> Schema:
    """The schema without the types that no file under terraform/ names: Terraform reads it many times over."""
    text = "".join(file.read_text() for file in (ROOT / "terraform").rglob("*.tf"))
    named = set(re.findall(r'^(?:resource|data) "(\w+)"', text, re.M))
    sections = ("resource_schemas", "data_source_schemas")
    return schema | {part: {name: schema[part][name] for name in named & schema[part].keys()} for part in sections}
