"""The life of a release in the models bucket, on a storage server of the test's own."""

import base64
import hashlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from google.cloud import storage

from local.stack.processes import free_port
from services.inference.served_models import BUNDLED, NoSuchVersion, NotReady, ServedModels, bundled_release
from shared.ml.model import Model, ModelMismatch
from shared.ml.release_files import CARD_FILE, GRAPH_FILE
from tests.services.inference.conftest import counted, running
from tests.support.releases import point, release, served
from tests.support.servers import Server
from tests.support.waiting import wait_until

PATIENCE = 60


@pytest.fixture
def following(watching: Server, watched_bucket: storage.Bucket) -> Server:
    """The service, watching a bucket in which version b is current."""
    release(watched_bucket, "b")
    point(watched_bucket, "b")
    wait_until(lambda: served(watching) == "b", PATIENCE)
    return watching


def test_the_pointer_is_followed_without_dropping_a_request(
    following: Server, watched_bucket: storage.Bucket, jpeg: bytes
):
    bucket = watched_bucket
    assert served(following) == "b"
    versions, statuses, over = Counter(), Counter(), threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.post(f"{following.url}/v1/predict", data=jpeg, timeout=30)
                statuses[answer.status_code] += 1
                versions[answer.json()["model_version"]] += 1

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        for version in ("c", "d", "b"):
            release(bucket, version)
            point(bucket, version)
            wait_until(lambda version=version: served(following) == version, PATIENCE)
            seen = versions[version]
            wait_until(lambda version=version, seen=seen: versions[version] > seen, PATIENCE)
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert set(statuses) == {200}
    assert set(versions) == {"b", "c", "d"}


def test_a_rollback_needs_nothing_but_the_pointer(following: Server, watched_bucket: storage.Bucket):
    bucket = watched_bucket
    release(bucket, "c")
    point(bucket, "c")
    wait_until(lambda: served(following) == "c", PATIENCE)
    assert requests.get(f"{following.url}/v2/models/scanflow/versions/b/ready", timeout=30).status_code == 200
    for blob in list(bucket.list_blobs(prefix="releases/b/")):
        blob.delete()
    point(bucket, "b")
    wait_until(lambda: served(following) == "b", PATIENCE)


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"preprocessing_version": "0"}])
def test_a_release_that_does_not_match_is_refused(following: Server, watched_bucket: storage.Bucket, changes: dict):
    bucket, bad = watched_bucket, f"bad-{next(iter(changes))}"
    before = counted(following, "scanflow_refused_releases_total")
    release(bucket, bad, **changes)
    point(bucket, bad)
    wait_until(lambda: counted(following, "scanflow_refused_releases_total") == before + 1, PATIENCE)
    assert served(following) == "b"
    release(bucket, "c")
    point(bucket, "c")
    wait_until(lambda: served(following) == "c", PATIENCE)


def test_a_scan_is_read_from_the_scans_bucket_and_from_no_other(
    cloud: str, bucket: storage.Bucket, tmp_path: Path, jpeg: bytes
):
    name = f"Cancer/{'0a' * 32}-0002.jpg"
    bucket.blob(name).upload_from_string(jpeg)
    bucket.blob("secret.txt").upload_from_string(b"x")
    variables = {"STORAGE_EMULATOR_HOST": cloud, "GOOGLE_CLOUD_PROJECT": "p", "SCANS_BUCKET": bucket.name}
    with running(tmp_path / "log", QUEUE_SECONDS="30", **variables) as server:

        def post(uri: str) -> requests.Response:
            return requests.post(f"{server.url}/v1/predict", json={"uri": uri}, timeout=30)

        answer = post(f"gs://{bucket.name}/{name}").json()
        assert answer["scan_id"] == f"{'0a' * 32}-0002"
        raw = requests.post(f"{server.url}/v1/predict", data=jpeg, timeout=30).json()
        assert answer["probability"] == raw["probability"]
        assert post(f"gs://{bucket.name}/Cancer/{'0b' * 32}.jpg").status_code == 404
        assert post(f"gs://{bucket.name}/secret.txt").status_code == 404
        assert post(f"gs://{bucket.name}x/{name}").status_code == 403
        assert post(f"file:///{name}").status_code == 403
        assert "0a0a" not in (tmp_path / "log").read_text()


def test_vertex_ai_sets_the_port_the_routes_and_the_folder_of_the_release(
    cloud: str, bucket: storage.Bucket, tmp_path: Path, jpeg: bytes
):
    release(bucket, "v")
    port, route = free_port(), "/v1/endpoints/7/deployedModels/8"
    variables = {
        "STORAGE_EMULATOR_HOST": cloud,
        "GOOGLE_CLOUD_PROJECT": "p",
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": route,
        "AIP_PREDICT_ROUTE": f"{route}:predict",
        "AIP_STORAGE_URI": f"gs://{bucket.name}/releases/v/",
    }
    with running(tmp_path / "log", port=port, QUEUE_SECONDS="30", **variables) as server:
        assert requests.get(f"{server.url}{route}", timeout=30).status_code == 200
        body = {"instances": [{"b64": base64.b64encode(jpeg).decode()}]}
        (answer,) = requests.post(f"{server.url}{route}:predict", json=body, timeout=30).json()["predictions"]
        assert answer["model_version"] == "v"


def test_what_is_no_release_is_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    graph = b"not a graph"
    card = replace(bundled_release().card, sha256=hashlib.sha256(graph).hexdigest())
    monkeypatch.setattr("services.inference.served_models.BUNDLED", tmp_path)
    for card_file in (card.to_json(), b"{}", b"[]", b"no json"):
        (tmp_path / CARD_FILE).write_bytes(card_file)
        (tmp_path / GRAPH_FILE).write_bytes(graph)
        with pytest.raises(ModelMismatch):
            bundled_release()


def test_a_swap_keeps_the_release_before():
    models, model = ServedModels(workers=2), bundled_release()
    other = Model(replace(model.card, version="other"), (BUNDLED / GRAPH_FILE).read_bytes())
    with pytest.raises(NotReady):
        models.of_version()
    models.serve(model)
    models.serve(other)
    assert models.current is models.of_version() is models.of_version("other") is other
    assert models.of_version(model.card.version) is model
    with pytest.raises(NoSuchVersion):
        models.of_version("third")


def test_a_model_is_warm_before_it_is_served(monkeypatch: pytest.MonkeyPatch):
    models, model = ServedModels(workers=2), bundled_release()
    models.serve(model)
    monkeypatch.setattr("shared.ml.model.Interpreter", None)  # from here on nobody can make another
    scan = np.zeros((128, 128, 3), np.float32)
    together = threading.Barrier(2)

    def predict() -> None:
        with model._runner() as run:
            together.wait(30)  # both hold an interpreter now
            run(scan=scan[np.newaxis])

    with ThreadPoolExecutor(2) as threads:
        for thread in [threads.submit(predict) for _ in range(2)]:
            thread.result()
