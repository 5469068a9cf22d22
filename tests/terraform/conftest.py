"""Terraform with the providers' schemas, but without the providers: their binaries are in no package index."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.terraform.provider_schema import PACKAGES, Schema, provider_schema
from tests.terraform.tools import CACHE, ROOT

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

Terraform = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def terraform() -> Terraform:
    """Run Terraform in a folder: `terraform(folder, "validate")`; skips where it is not installed."""
    if not (program := shutil.which("terraform")):
        pytest.skip("Terraform is not installed; see https://developer.hashicorp.com/terraform/install")
    CACHE.mkdir(parents=True, exist_ok=True)
    settings = CACHE / "terraform.rc"
    settings.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{_mirror()}"\n  }}\n}}\n')
    variables = os.environ | {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [program, f"-chdir={folder}", *arguments]
        streams = {"input": stdin, "capture_output": True, "text": True}
        return subprocess.run(command, check=False, env=variables, timeout=300, **streams)

    return run


@pytest.fixture(scope="session")
def workspace(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, beside the folders that it reads, that has been initialised."""
    copy = tmp_path_factory.mktemp("repository")
    for part in ("shared", "functions", "services/inference/release"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (copy / part).symlink_to(ROOT / part)
    folder = shutil.copytree(ROOT / "terraform", copy / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    initialised = terraform(folder, "init", "-backend=false", "-no-color")
    assert initialised.returncode == 0, initialised.stderr
    return folder


def _mirror() -> Path:
    """A folder of providers as Terraform looks for it; each is our own, which serves a schema (schema_provider.py)."""
    mirror = CACHE / "providers"
    system = f"{platform.system().lower()}_{_ARCHITECTURE[platform.machine()]}"
    server = Path(__file__).with_name("schema_provider.py")
    for name in PACKAGES:
        schema = used_part(provider_schema(name))
        folder = mirror / "registry.terraform.io" / "hashicorp" / name / schema["version"] / system
        folder.mkdir(parents=True, exist_ok=True)
        (mirror / f"{name}.json").write_text(json.dumps(schema))
        program = folder / f"terraform-provider-{name}_v{schema['version']}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{server}" "{mirror / name}.json"\n')
        program.chmod(0o755)
    return mirror


def used_part(schema: Schema) -> Schema:
    """The schema without the types that no file under terraform/ names: Terraform reads it many times over."""
    text = "".join(file.read_text() for file in (ROOT / "terraform").rglob("*.tf"))
    named = set(re.findall(r'^(?:resource|data) "(\w+)"', text, re.M))
    sections = ("resource_schemas", "data_source_schemas")
    return schema | {part: {name: schema[part][name] for name in named & schema[part].keys()} for part in sections}
