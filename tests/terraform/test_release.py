"""A drill of the pipeline's own release steps against the running system.

`gcloud` and `terraform` work on a folder that stands for the cloud (cloud_commands.py). The trials are the real ones
(tests/smoke.py) and ask real processes: the stack's inference service for a good release, a hello page for a bad one.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from local.stack.system import PROJECT, Stack
from tests.terraform.tools import ROOT

SERVICES = ("inference", "dashboard")
OLD = {name: f"{name}@old" for name in (*SERVICES, "preprocessing", "training")}
NEW = {name: f"{name}@new" for name in OLD}


class HelloPage(BaseHTTPRequestHandler):
    """What a service shows whose image is not ours: every path answers 200 with a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"Hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hello() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HelloPage)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@dataclass(frozen=True)
class Drill:
    """A workspace of Cloud Build and the cloud that it changes."""

    folder: Path
    cloud: Path

    def release(self, **variables: str) -> int:
        """Run every step from the candidate on as Cloud Build does; return the first exit status that is not 0."""
        own = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "CLOUD": str(self.cloud),
            "PROJECT_ID": PROJECT,
            "REGION": "europe-west4",
            "ENVIRONMENT": "prod",
            "PYTHONPATH": str(ROOT),
        }
        steps = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())["steps"]
        names = [step["id"] for step in steps]
        for step in steps[names.index("candidate") :]:
            shell = step["script"].splitlines()[0].removeprefix("#!")
            given = os.environ | own | variables
            done = subprocess.run([shell, "-c", step["script"]], cwd=self.folder, env=given, check=False)
            if done.returncode:
                return done.returncode
        return 0

    def addresses(self, **images: str) -> None:
        """Say which process runs an image."""
        (self.cloud / "addresses.json").write_text(json.dumps(images))

    def read(self) -> dict:
        return json.loads((self.cloud / "cloud.json").read_text())

    def shares(self) -> dict[str, dict[str, int]]:
        """Image -> share of the traffic, of each service."""
        return {
            name: {
                service["revisions"][to["revisionName"]]: to["percent"]
                for to in service["traffic"]
                if to.get("percent")
            }
            for name, service in self.read()["services"].items()
        }

    def commands(self) -> str:
        return (self.cloud / "commands").read_text()


@pytest.fixture
def drill(stack: Stack, hello: str, tmp_path: Path) -> Drill:
    """The old release is deployed; the new one is built, planned, and good unless `addresses` says otherwise."""
    folder, cloud = tmp_path / "workspace", tmp_path / "cloud"
    for path in (folder / "bin", folder / ".local/uv/bin", folder / "services/inference/release", cloud / "bucket"):
        path.mkdir(parents=True)
    for path in ("functions", "shared", "terraform/environments"):
        (folder / path).mkdir(parents=True)
    (folder / "terraform/deploy.sh").write_text((ROOT / "terraform/deploy.sh").read_text())
    commands = Path(__file__).with_name("cloud_commands.py")
    for name in ("gcloud", "terraform"):
        _script(folder / "bin" / name, f'exec {shlex.join([sys.executable, str(commands), name])} "$@"')
    uv = f'while [ "$1" != python ]; do shift; done; shift; exec {shlex.quote(sys.executable)} "$@"'
    _script(folder / ".local/uv/bin/uv", uv)
    service = {"revisions": {"revision-1": ""}, "traffic": [{"revisionName": "revision-1", "percent": 100}]}
    services = {name: json.loads(json.dumps(service)) for name in SERVICES}
    for name in SERVICES:
        services[name]["revisions"]["revision-1"] = OLD[name]
    (cloud / "cloud.json").write_text(json.dumps({"services": services, "state": OLD, "functions": "old"}))
    (cloud / "bucket/images.json").write_text(json.dumps(OLD))
    made = Drill(folder, cloud)
    _keep_old_sources(made)
    (folder / "functions/main.py").write_text("new")
    (folder / "images.json").write_text(json.dumps(NEW))
    (folder / "terraform/plan").write_text(json.dumps(NEW))
    good = stack.url("inference")
    made.addresses(**dict.fromkeys((OLD["inference"], NEW["inference"]), good))
    return made


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _keep_old_sources(drill: Drill) -> None:
    """What the last good release left in the state bucket."""
    (drill.folder / "functions/main.py").write_text("old")
    archive = ["tar", "-czf", str(drill.cloud / "bucket/deployed.tgz"), "terraform", "functions"]
    subprocess.run(archive, cwd=drill.folder, check=True)


def test_a_good_release_takes_all_traffic_and_is_remembered(drill: Drill) -> None:
    assert drill.release() == 0
    assert drill.shares() == {name: {NEW[name]: 100} for name in SERVICES}
    assert drill.read()["functions"] == "new"
    assert json.loads((drill.cloud / "bucket/images.json").read_text()) == NEW
    assert f"run deploy inference --region=europe-west4 --image={NEW['inference']} " in drill.commands()
    assert "update-traffic inference --region=europe-west4 --to-tags=candidate=10" in drill.commands()


def test_a_candidate_that_does_not_answer_gets_no_traffic(drill: Drill, stack: Stack, hello: str) -> None:
    drill.addresses(**{OLD["inference"]: stack.url("inference"), NEW["inference"]: hello})
    assert drill.release() != 0
    assert "--to-tags" not in drill.commands()
    assert "terraform apply -input=false plan" not in drill.commands()
    _nothing_has_changed(drill)


def test_a_tenth_that_fails_is_taken_back(drill: Drill, hello: str) -> None:
    """The service's own address fails once a tenth goes elsewhere: here, because the old revision's does."""
    good = json.loads((drill.cloud / "addresses.json").read_text())
    drill.addresses(**good | {OLD["inference"]: hello})
    assert drill.release() != 0
    assert "--to-tags=candidate=10" in drill.commands()
    assert "terraform apply -input=false plan" not in drill.commands()
    _nothing_has_changed(drill)


def test_an_apply_that_stops_half_way_is_taken_back_with_functions_images_and_state(drill: Drill) -> None:
    """Terraform has changed everything and then fails; the way back must not fail with it."""
    (drill.cloud / "fail-after-apply").touch()
    assert drill.release() != 0
    _nothing_has_changed(drill)


def test_a_pipeline_that_no_scan_comes_through_is_taken_back(drill: Drill) -> None:
    assert drill.release(BIGQUERY_EMULATOR_HOST="http://127.0.0.1:9") != 0
    assert "terraform apply -input=false plan" in drill.commands()
    _nothing_has_changed(drill)


def test_a_second_release_after_a_failed_one_starts_from_what_serves(drill: Drill, stack: Stack, hello: str) -> None:
    """A candidate that failed is the latest revision: the way back must not lead to it."""
    drill.addresses(**{OLD["inference"]: stack.url("inference"), NEW["inference"]: hello})
    drill.release()
    (drill.folder / "failed").unlink()
    drill.release()
    _nothing_has_changed(drill)


def test_a_first_release_that_fails_has_only_the_traffic_to_take_back(drill: Drill, stack: Stack, hello: str) -> None:
    (drill.cloud / "bucket/deployed.tgz").unlink()
    drill.addresses(**{OLD["inference"]: stack.url("inference"), NEW["inference"]: hello})
    assert drill.release() != 0
    _nothing_has_changed(drill)


def test_a_prefixed_release_leaves_the_other_environment_of_the_project_alone(
    drill: Drill, stack: Stack, hello: str
) -> None:
    cloud = drill.read()
    cloud["services"] |= {f"dev-{name}": json.loads(json.dumps(cloud["services"][name])) for name in SERVICES}
    (drill.cloud / "cloud.json").write_text(json.dumps(cloud))
    drill.addresses(**{OLD["inference"]: stack.url("inference"), NEW["inference"]: hello})
    assert drill.release(PREFIX="dev-") != 0
    named = re.findall(r"gcloud run (?:deploy|services [\w-]+) (\S+)", drill.commands())
    assert set(named) == {"dev-inference", "dev-dashboard"}
    assert set(re.findall(r"(?:gs://|bucket=)([\w-]+)", drill.commands())) == {f"{PROJECT}-dev-terraform"}
    assert drill.shares() == {f"{prefix}{name}": {OLD[name]: 100} for name in SERVICES for prefix in ("", "dev-")}


def _nothing_has_changed(drill: Drill) -> None:
    """The old release serves everybody, and everything that the next release starts from says so."""
    assert drill.shares() == {name: {OLD[name]: 100} for name in SERVICES}
    assert (drill.read()["functions"], drill.read()["state"]) == ("old", OLD)
    assert json.loads((drill.cloud / "bucket/images.json").read_text()) == OLD
