"""Terraform's own checks, with the schemas of google 7.46: they find every kind of mistake, and none in terraform/."""

import json
from collections import defaultdict

import pytest

from local.stack.terraform_config import TERRAFORM
from tests.terraform.mistakes import MISTAKES
from tests.terraform.readme import MODULES, tables

FINDS = {
    "misspelt resource": "Invalid resource type",
    "misspelt data source": "Invalid data source",
    "misspelt attribute": "Unsupported argument",
    "misspelt block": "Unsupported block type",
    "misspelt attribute of a reference": "Unsupported attribute",
    "missing argument": "Missing required argument",
    "missing block": "Insufficient conditions blocks",
    "one block too many": "Too many schema_settings blocks",
    "wrong type": "Incorrect attribute value type",
    "dangling resource": "Reference to undeclared resource",
    "dangling local": "Reference to undeclared local value",
    "dangling variable": "Reference to undeclared input variable",
    "dangling module": "Reference to undeclared module",
    "misspelt output": "Unsupported attribute",
}


@pytest.fixture(scope="module")
def complaints(terraform, workspace) -> dict[str, set[str]]:
    """What `terraform validate` says of every mistake, each in a file of its own."""
    files = {workspace / f"mistake_{number}.tf": name for number, name in enumerate(FINDS)}
    for file, name in files.items():
        file.write_text(MISTAKES[name] + "\n")
    found = json.loads(terraform(workspace, "validate", "-json").stdout)["diagnostics"]
    for file in files:
        file.unlink()
    said = defaultdict(set)
    for complaint in found:
        said[files.get(workspace / complaint["range"]["filename"])].add(complaint["summary"])
    return said


def test_formatted(terraform, workspace):
    formatted = terraform(workspace, "fmt", "-check", "-recursive", "-diff")
    assert formatted.returncode == 0, formatted.stdout


def test_valid(terraform, workspace):
    validated = terraform(workspace, "validate", "-no-color")
    assert validated.returncode == 0, validated.stderr


@pytest.mark.parametrize("file", sorted(file.name for file in (TERRAFORM / "tests").glob("*.tftest.hcl")))
def test_plans_and_applies_from_nothing(tested, file):
    """Each file begins without a state: what one run left behind would hide what another cannot know in plan."""
    assert (TERRAFORM / "tests" / file).read_text().count("\nrun ") == 1
    messages = tested(file)
    assert messages["test_summary"][0]["test_summary"]["passed"] == 1, messages.get("diagnostic")


@pytest.mark.parametrize("mistake", FINDS)
def test_finds(complaints, mistake):
    assert complaints[mistake] == {FINDS[mistake]}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_modules_readme_lists_its_inputs_and_outputs(module):
    stale = "stale: run `python -m tests.terraform.readme` and commit it"
    assert tables(module) in (module / "README.md").read_text(), stale


def test_the_steps_example_applies_and_other_forms_are_refused(terraform, workspace):
    module = workspace / "modules" / "step"
    assert terraform(module, "init", "-backend=false", "-no-color").returncode == 0
    done = terraform(module, "test", "-no-color")
    assert "4 passed, 0 failed" in done.stdout, done.stdout + done.stderr
