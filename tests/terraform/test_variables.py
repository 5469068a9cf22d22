"""Every variable that has a form says so in a validation, and a test gives it another."""

import re
from pathlib import Path

import pytest

from local.stack.terraform_config import TERRAFORM, parsed, plain

STEP = TERRAFORM / "modules" / "step"
FREE = {
    TERRAFORM: {"source_prefix"},
    STEP: {"builder", "notification_channels", "pubsub_agent", "source_code", "topics"},
}
"""Any text will do, or another resource gives the value."""


def variables(module: Path) -> dict[str, dict]:
    blocks = parsed((module / "variables.tf").read_text())["variable"]
    return {name: body for block in blocks for name, body in plain(block).items()}


@pytest.mark.parametrize("module", FREE, ids=lambda module: module.name)
def test_every_variable_that_has_a_form_is_validated(module: Path) -> None:
    free = {name for name, body in variables(module).items() if "validation" not in body and body["type"] != "bool"}
    assert free == FREE[module]


@pytest.mark.parametrize("module", FREE, ids=lambda module: module.name)
def test_every_validation_refuses_something_in_a_test(module: Path) -> None:
    tests = "".join(file.read_text() for file in (module / "tests").glob("*.tftest.hcl"))
    refused = {name for group in re.findall(r"expect_failures = \[([^\]]*)\]", tests) for name in group.split(",")}
    validated = {f"var.{name}" for name, body in variables(module).items() if "validation" in body}
    assert validated == {name.strip() for name in refused} - {""}


@pytest.mark.parametrize("module", FREE, ids=lambda module: module.name)
def test_a_refusal_is_a_sentence(module: Path) -> None:
    for name, body in variables(module).items():
        for validation in body.get("validation", []):
            assert re.match(r"[A-Z]", validation["error_message"]), name
            assert len(validation["error_message"]) > 15, name
