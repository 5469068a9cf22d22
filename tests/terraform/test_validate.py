"""Terraform's own checks, with the schemas of google 6.50: they find every kind of mistake, and none in terraform/."""

import json
from collections import defaultdict

import pytest

MISTAKES = {
    "misspelt resource": ('resource "google_pubsub_topik" "bad" {\n  name = "a"\n}', "Invalid resource type"),
    "misspelt data source": ('data "google_projekt" "bad" {}', "Invalid data source"),
    "misspelt attribute": (
        'resource "google_pubsub_topic" "b" {\n  name = "a"\n  lables = {}\n}',
        "Unsupported argument",
    ),
    "misspelt block": (
        'resource "google_pubsub_subscription" "bad" {\n  name  = "a"\n  topic = "b"\n  retry_polcy {}\n}',
        "Unsupported block type",
    ),
    "misspelt attribute of a reference": (
        'output "bad" {\n  value = google_storage_bucket.this["uploads"].ulr\n}',
        "Unsupported attribute",
    ),
    "missing argument": ('resource "google_pubsub_subscription" "c" {\n  name = "a"\n}', "Missing required argument"),
    "missing block": (
        'resource "google_monitoring_alert_policy" "d" {\n  combiner     = "OR"\n  display_name = "a"\n}',
        "Insufficient conditions blocks",
    ),
    "one block too many": (
        'resource "google_pubsub_topic" "e" {\n  name = "a"\n  schema_settings {\n    schema = "a"\n  }\n'
        '  schema_settings {\n    schema = "b"\n  }\n}',
        "Too many schema_settings blocks",
    ),
    "wrong type": ('resource "google_pubsub_topic" "f" {\n  name = ["a"]\n}', "Incorrect attribute value type"),
    "dangling resource": (
        'output "g" {\n  value = google_pubsub_topic.nowhere.id\n}',
        "Reference to undeclared resource",
    ),
    "dangling local": ('output "h" {\n  value = local.nowhere\n}', "Reference to undeclared local value"),
    "dangling variable": ('output "i" {\n  value = var.nowhere\n}', "Reference to undeclared input variable"),
}


@pytest.fixture(scope="module")
def complaints(terraform, workspace) -> dict[str, set[str]]:
    """What `terraform validate` says of every mistake, each in a file of its own."""
    files = {workspace / f"mistake_{number}.tf": name for number, name in enumerate(MISTAKES)}
    for file, name in files.items():
        file.write_text(MISTAKES[name][0] + "\n")
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


def test_plans_with_three_variables_and_with_everything_switched_on(terraform, workspace):
    tested = terraform(workspace, "test", "-no-color")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds(complaints, mistake):
    assert complaints[mistake] == {MISTAKES[mistake][1]}
