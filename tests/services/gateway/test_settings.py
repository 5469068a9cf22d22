"""The settings' file that hospitals fill in names what the gateway reads, all of it and nothing else."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
OPERATIONS = ROOT / "docs" / "operations"
OF_THE_PIPELINE = {
    "GOOGLE_CLOUD_PROJECT",
    "NAME_PREFIX",
    "UPLOADS_BUCKET",
    "SCANS_BUCKET",
    "INFERENCE_URL",
    "PSEUDONYM_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
}


def test_settings_file_names_every_variable_and_no_other() -> None:
    code = "".join(file.read_text() for file in (ROOT / "services/gateway").rglob("*.py"))
    read = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z0-9_]+)"', code))
    named = set(re.findall(r"^([A-Z0-9_]+)=", (OPERATIONS / "gateway.env").read_text(), re.MULTILINE))
    assert named == read | OF_THE_PIPELINE


def test_compose_file_and_unit_run_the_container_alike() -> None:
    service = yaml.safe_load((OPERATIONS / "gateway.compose.yaml").read_text())["services"]["gateway"]
    unit = (OPERATIONS / "scanflow-gateway.service").read_text()
    assert all(f"--publish {ports}" in unit for ports in service["ports"])
    assert f"--env-file {service['env_file']}" in unit
    assert unit.rstrip().count(service["image"]) >= 1
