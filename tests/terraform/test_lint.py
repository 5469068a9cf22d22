"""tflint's rules, by a checker of our own: it finds each kind of mistake, and none in terraform/."""

from pathlib import Path

import pytest

from tests.terraform.lint import RULES, findings
from tests.terraform.readme import MODULES

HEAD = (
    'terraform {\n  required_version = ">= 1.9"\n  required_providers {\n'
    '    google = { source = "hashicorp/google", version = "~> 7.46" }\n  }\n}\n'
    'resource "google_pubsub_topic" "this" {\n  name = "a"\n}\n'
)
MISTAKES = {
    "typed_variables: untyped": 'variable "untyped" {\n  description = "a"\n}\noutput "a" {\n  value = var.untyped\n}',
    "documented_variables: silent": 'variable "silent" {\n  type = string\n}',
    "documented_outputs: silent": 'output "silent" {\n  value = 1\n}',
    "naming_convention: google_pubsub_topic.B-1": 'resource "google_pubsub_topic" "B-1" {\n  name = "b"\n}',
    "unused_declarations: var.unused": (
        'variable "unused" {\n  description = "a"\n  type        = string\n'
        '  validation {\n    condition     = var.unused != ""\n    error_message = "a"\n  }\n}'
    ),
    "unused_declarations: local.unused": "locals {\n  unused = 1 # local.unused\n}",
    "unused_declarations: data.google_project.this": 'data "google_project" "this" {}',
    "unused_required_providers: time": (
        'terraform {\n  required_providers {\n    time = { source = "hashicorp/time", version = "~> 0.13" }\n  }\n}'
    ),
    "required_providers: time": 'resource "time_sleep" "this" {\n  create_duration = "1s"\n}',
    'deprecated_interpolation: = "${local.a}"': 'locals {\n  a = "b"\n  c = "${local.a}"\n}',
    "deprecated_index: google_pubsub_topic.this.labels.0": "locals {\n  a = google_pubsub_topic.this.labels.0\n}",
    "deprecated_lookup: lookup(local.a, 1)": "locals {\n  a = lookup(local.a, 1)\n}",
    "empty_list_equality: local.a == []": "locals {\n  a = local.a == []\n}",
    "comment_syntax: // a": "// a",
    "map_duplicate_keys: a": "locals {\n  b = {\n    a = 1\n    a = 2\n  }\n}",
    "module_pinned_source: far": 'module "far" {\n  source = "git::https://example.org/far.git"\n}',
}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_terraform_is_without_findings(module: Path) -> None:
    assert findings(module) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds(tmp_path: Path, mistake: str) -> None:
    (tmp_path / "main.tf").write_text(f"{HEAD}{MISTAKES[mistake]}\n")
    assert f"terraform_{mistake}" in findings(tmp_path)


def test_finds_a_missing_version_of_terraform(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "google_pubsub_topic" "this" {\n  name = "a"\n}\n')
    assert "terraform_required_version: none is given" in findings(tmp_path)


def test_finds_nothing_where_nothing_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(HEAD)
    assert findings(tmp_path) == []


def test_every_rule_has_its_mistake() -> None:
    tried = {mistake.partition(":")[0] for mistake in MISTAKES} | {"required_version"}
    assert tried == {rule.__name__ for rule in RULES}
