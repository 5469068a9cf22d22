"""The checker that needs no Terraform: it finds every kind of mistake, and none in terraform/."""

import shutil
from pathlib import Path

import pytest

from local.stack.terraform_config import TERRAFORM
from tests.terraform.checker import complaints
from tests.terraform.mistakes import MISTAKES

FINDS = {
    "misspelt resource": "google_pubsub_topik: no such resource",
    "misspelt data source": "google_projekt: no such data",
    "misspelt attribute": "google_pubsub_topic.b: no attribute or block lables",
    "misspelt block": "google_pubsub_subscription.c: no attribute or block retry_polcy",
    "misspelt attribute of a reference": "google_storage_bucket.this has no ulr",
    "missing argument": "google_pubsub_subscription.e: topic is missing",
    "missing block": "google_monitoring_alert_policy.f: block conditions is missing",
    "one block too many": "google_pubsub_topic.g: more than one block schema_settings",
    "dangling resource": "nothing declares google_pubsub_topic.nowhere",
    "dangling local": "nothing declares local.nowhere",
    "dangling variable": "nothing declares var.nowhere",
    "dangling module": "nothing declares module.nowhere",
    "misspelt output": "module.step has no output uri",
    "misspelt argument of a module": "module.n: no variable nmae",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is said of a copy of terraform/ with every mistake in it."""
    copy = shutil.copytree(TERRAFORM, tmp_path_factory.mktemp("mistaken") / "terraform")
    Path(copy, "mistakes.tf").write_text("\n".join(MISTAKES.values()) + "\n")
    return complaints(copy)


def test_terraform_is_without_mistakes():
    assert complaints(TERRAFORM) == []


@pytest.mark.parametrize("mistake", FINDS)
def test_finds(found, mistake):
    assert FINDS[mistake] in found
