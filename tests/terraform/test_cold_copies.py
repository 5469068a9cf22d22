"""What is deployed, alone: a function's zip in an empty folder, an image's files in another, and what each requires."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from google.cloud import pubsub_v1

from local.stack.processes import free_port
from local.stack.provision import make_buckets
from local.stack.system import PROJECT, Stack
from local.stack.terraform_config import TERRAFORM, declared
from shared.clock import now
from shared.events import ScanAccepted
from shared.gcp import bigquery, storage
from shared.labels import Label
from shared.scan import file_id, scan_object
from tests.functions.test_record_dead_letter import given_up_by
from tests.smoke import synthetic_scan
from tests.support.datasets import own_dataset
from tests.support.events import scan_scored, stored_scan
from tests.support.servers import running
from tests.terraform.tools import ROOT, environment

BUCKETS = ("uploads", "scans", "quarantine", "prepared", "source")
DEADLINE_S = 120


@dataclass(frozen=True)
class Cloud:
    """The stack's stand-ins, with buckets and tables that its own functions never see."""

    environment: Mapping[str, str]

    def bucket(self, name: str) -> str:
        """Its own bucket."""
        return self.environment[f"{name.upper()}_BUCKET"]

    def rows(self, table: str, scan_id: str) -> list[dict]:
        """Rows of a scan in one of its own tables."""
        sql = f"SELECT scan_id FROM {self.environment['DATASET']}.{table} WHERE scan_id = @scan_id"
        return bigquery.query(sql, scan_id=scan_id)


@pytest.fixture(scope="module")
def cloud(stack: Stack) -> Iterator[Cloud]:
    with empty_cloud() as empty:
        yield empty


@contextmanager
def empty_cloud() -> Iterator[Cloud]:
    """Buckets without objects, tables without rows."""
    mark = f"cold-{uuid.uuid4().hex[:8]}"
    buckets = {name: f"{mark}-{name}" for name in BUCKETS}
    make_buckets(buckets)
    with own_dataset() as dataset:
        yield Cloud({f"{name.upper()}_BUCKET": bucket for name, bucket in buckets.items()} | {"DATASET": dataset})


@contextmanager
def serving(command: list[str], folder: Path, variables: Mapping[str, str], health: str) -> Iterator[str]:
    """A server in a folder, in no other environment than what is given; its address once it answers."""
    port = free_port()
    own = {"HOST": "127.0.0.1", "STREAMLIT_SERVER_PORT": str(port), "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"}
    given = {**variables, **own, "HOME": str(folder)}
    with running(command, folder / "log", health, port=port, cwd=folder, environment=given) as server:
        yield server.url


@contextmanager
def function(name: str, folder: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """A function served from its zip's content alone, as Cloud Functions starts one that has no event trigger."""
    for file in [
        *ROOT.glob("shared/**/*.py"),
        *(ROOT / "functions" / name / part for part in ("main.py", "requirements.txt")),
    ]:
        target = folder / file.relative_to(ROOT if "shared" in file.parts else file.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    programs = environment(f"function-{name}", *(folder / "requirements.txt").read_text().splitlines())
    given = {"PATH": f"{programs}:{os.environ['PATH']}", "FUNCTION_SIGNATURE_TYPE": "http", "FUNCTION_TARGET": name}
    with serving([str(programs / "functions-framework")], folder, given | variables, "/robots.txt") as url:
        yield url


def settings(stack: Stack, cloud: Cloud, name: str) -> dict[str, str]:
    """What the running stack gives this function, but for the cold buckets and tables, and nothing of this process."""
    given = stack.services[name].environment
    wanted = (declared()["steps"] | declared()["scheduled"])[name]
    names = {*wanted["environment"], *wanted.get("secrets", {}), "GOOGLE_CLOUD_PROJECT"}
    names |= {key for key in given if key.endswith("_EMULATOR_HOST")}
    return {key: cloud.environment.get(key, given[key]) for key in names}


def push(url: str, data: bytes, **attributes: str) -> int:
    """Deliver a message as Pub/Sub does; the answer's status."""
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": attributes,
        "messageId": "1",
        "publishTime": now(),
    }
    body = {"message": message, "subscription": f"projects/{PROJECT}/subscriptions/cold"}
    return requests.post(url, json=body, timeout=DEADLINE_S).status_code


def accepted(cloud: Cloud) -> ScanAccepted:
    """A new scan in the scans bucket and the event that says so."""
    content = synthetic_scan()
    name = scan_object(Label.UNLABELLED, file_id(content), "png")
    facts = {"source": "cold", "width": 256, "height": 256, "uploaded_at": now(), "accepted_at": now()}
    return stored_scan(cloud.bucket("scans"), content, Label.UNLABELLED, name, **facts)


def test_validate_scan(stack, cloud, tmp_path):
    content = synthetic_scan()
    storage.create(cloud.bucket("uploads"), "Cancer/a.png", content, "image/png")
    notification = storage.client().bucket(cloud.bucket("uploads")).get_blob("Cancer/a.png")._properties
    with function("validate_scan", tmp_path, settings(stack, cloud, "validate_scan")) as url:
        assert push(url, json.dumps(notification).encode()) in (200, 204)
    stored = storage.read(cloud.bucket("scans"), scan_object(Label.CANCER, file_id(content), "png"))
    assert stored == content


def test_record_scan(stack, cloud, tmp_path):
    event = accepted(cloud)
    with function("record_scan", tmp_path, settings(stack, cloud, "record_scan")) as url:
        assert push(url, event.to_json(), event=event.TOPIC) in (200, 204)
    assert cloud.rows("scans", event.scan_id)


def test_write_features(stack, cloud, tmp_path):
    scan = accepted(cloud)
    event = scan_scored(scan_id=scan.scan_id, bucket=scan.bucket, name=scan.name, embedding=[0.5, 1.5])
    with function("write_features", tmp_path, settings(stack, cloud, "write_features")) as url:
        assert push(url, event.to_json(), event=event.TOPIC) in (200, 204)
    assert cloud.rows("features", event.scan_id)


def test_record_dead_letter(stack, cloud, tmp_path):
    event = accepted(cloud)
    with function("record_dead_letter", tmp_path, settings(stack, cloud, "record_dead_letter")) as url:
        assert push(url, event.to_json(), **given_up_by("score-scan-on-scan-accepted")) in (200, 204)
    assert cloud.rows("dead_letters", event.scan_id)


def test_score_scan(stack, cloud, tmp_path):
    """The inference service reads only its own scans bucket, so the scan lies there."""
    event = accepted(Cloud(cloud.environment | {"SCANS_BUCKET": os.environ["SCANS_BUCKET"]}))
    with function("score_scan", tmp_path, settings(stack, cloud, "score_scan")) as url:
        assert push(url, event.to_json(), event=event.TOPIC) in (200, 204)
    assert cloud.rows("predictions", event.scan_id)


def test_ingest_scans(stack, cloud, tmp_path):
    storage.create(cloud.bucket("source"), "glioma/a.png", synthetic_scan(), "image/png")
    variables = settings(stack, cloud, "ingest_scans") | {"LABEL_MAP": "glioma=Cancer"}
    with function("ingest_scans", tmp_path, variables) as url:
        answer = requests.post(url, timeout=DEADLINE_S)
    assert answer.json() == {"copied": 1, "known": 0}


def test_verify_ingestion(stack, tmp_path):
    with empty_cloud() as empty:
        variables = settings(stack, empty, "verify_ingestion") | {"SOURCE_BUCKET": ""}
        with function("verify_ingestion", tmp_path, variables) as url:
            answer = requests.post(url, timeout=DEADLINE_S)
    assert {check["label"] for check in answer.json()["checks"]} == set(Label)


def test_start_preprocessing(stack, cloud, tmp_path):
    """In a project of its own, whose subscription is empty: no batch is started."""
    project = "cold-project"
    with pubsub_v1.SubscriberClient() as subscriber:
        topic = pubsub_v1.PublisherClient().create_topic(name=f"projects/{project}/topics/scan-accepted")
        subscriber.create_subscription(name=f"projects/{project}/subscriptions/preprocessing", topic=topic.name)
    variables = settings(stack, cloud, "start_preprocessing") | {"GOOGLE_CLOUD_PROJECT": project}
    with function("start_preprocessing", tmp_path, variables) as url:
        answer = requests.post(url, timeout=DEADLINE_S)
    assert answer.json() == {"scans": 0, "submitted": []}


@dataclass(frozen=True)
class Image:
    """What a Dockerfile builds, as far as Python goes."""

    folder: Path
    programs: Path
    environment: dict[str, str]
    command: list[str]


def image(dockerfile: Path, folder: Path) -> Image:
    """Install and copy as a Dockerfile says, into a clean environment and a folder."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    final = text.split("\nFROM ")[-1]
    (requirements,) = re.findall(r"^COPY (\S+requirements\.txt)", text, re.M)
    wanted = (ROOT / requirements).read_text()
    if left_out := re.search(r"sed -E '([^']+)'", dockerfile.read_text()):
        wanted = subprocess.run(
            ["sed", "-E", left_out[1]], input=wanted, text=True, capture_output=True, check=True
        ).stdout
        assert "pyspark" not in wanted
    programs = environment(f"image-{dockerfile.parent.name}", *wanted.splitlines())
    for line in re.findall(r"^COPY (?!--from)(?!.*requirements)(.+)", final, re.M):
        *sources, target = shlex.split(line)
        for source in sources:
            shutil.copytree(ROOT / source, folder / target)
    own = dict(pair.split("=", 1) for line in re.findall(r"^ENV (.+)", final, re.M) for pair in shlex.split(line))
    own = {name: value.replace("/app", str(folder)) for name, value in own.items()}
    own["PATH"] = f"{programs}:{os.environ['PATH']}"
    command = re.search(r"^CMD (.+)", final, re.M)
    return Image(folder, programs, own, json.loads(command[1]) if command else [])


def probe(service: str) -> str:
    """The path that Terraform's startup probe asks."""
    block = (TERRAFORM / "services.tf").read_text().partition(f'"google_cloud_run_v2_service" "{service}"')[2]
    return re.search(r'startup_probe \{\s+http_get \{\s+path = "([^"]+)"', block)[1]


@pytest.mark.parametrize("dockerfile", ["services/inference/Dockerfile", "dashboard/Dockerfile"])
def test_a_service_starts_from_its_image(dockerfile, tmp_path):
    built = image(ROOT / dockerfile, tmp_path)
    health = probe((ROOT / dockerfile).parent.name)
    command = [str(built.programs / built.command[0]), *built.command[1:]]
    with serving(command, tmp_path, built.environment, health) as url:
        assert requests.get(url + health, timeout=10).status_code == 200


@pytest.mark.parametrize(("job", "module"), [("training", "commands"), ("preprocessing", "job")])
def test_a_job_starts_from_its_image(job, module, tmp_path):
    """As far as its own account of itself, and all that it imports. Spark's Python comes with Dataproc, so here from
    beside the image."""
    built = image(ROOT / "services" / job / "Dockerfile", tmp_path)
    variables = built.environment | {"HOME": str(tmp_path)}
    variables.pop("LD_PRELOAD", None)
    if job == "preprocessing":
        spark = tmp_path / "spark"
        spark.mkdir()
        for package in ("pyspark", "py4j"):
            (spark / package).symlink_to(Path(find_spec(package).origin).parent)
        variables["PYTHONPATH"] += f":{spark}"
    for arguments in (["-m", f"services.{job}", "--help"], ["-c", f"import services.{job}.{module}"]):
        command = [str(built.programs / "python"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
