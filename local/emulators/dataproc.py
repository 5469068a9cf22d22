"""A stand-in for Dataproc Serverless on one machine: a batch is a process that runs the Spark job here.

    python -m local.emulators.dataproc --port 8086 --directory .local/state/dataproc

It answers CreateBatch, GetBatch and ListBatches as `google-cloud-dataproc` asks them, and keeps what became of each
batch across restarts. Container image, service account and runtime version are accepted and ignored.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.cloud import dataproc_v1
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from local.java import java_home
from local.stack.terraform_config import ROOT

State = dataproc_v1.Batch.State

_SERVICE = "google.cloud.dataproc.v1.BatchController"
_IMAGE_ROOT = "/app/"
"""Where the job's image has this repository."""
_DRIVER_VARIABLE = "spark.dataproc.driverEnv."
_MASTER = "local[*,4]"
"""Every core, and a task that dies is tried again as often as on a cluster."""


class Batches:
    """Batches by name, one running at a time: two would only halve each other's machine."""

    def __init__(self, directory: Path) -> None:
        """Keep states and logs under `directory`; a batch that a killed stand-in left unfinished has failed."""
        self._directory = directory
        self._java = java_home(directory / "java")
        self._running: subprocess.Popen[bytes] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._changing = threading.Lock()
        self._batches = {batch.name: batch for batch in map(_read, directory.glob("*.json"))}
        for batch in self._batches.values():
            if batch.state in (State.PENDING, State.RUNNING):
                self._enter(batch, State.FAILED)

    def create(self, request: dataproc_v1.CreateBatchRequest, context: grpc.ServicerContext) -> Operation:
        """Start a batch under an id that was never used."""
        name = f"{request.parent}/batches/{request.batch_id}"
        with self._changing:
            if name in self._batches:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{request.batch_id} exists")
            request.batch.name = name
            self._enter(request.batch, State.PENDING)
        self._worker.submit(self._run, request.batch)
        return Operation(name=f"{request.parent}/operations/{request.batch_id}")

    def get(self, request: dataproc_v1.GetBatchRequest, context: grpc.ServicerContext) -> dataproc_v1.Batch:
        """A batch and its state."""
        if request.name not in self._batches:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such batch")
        return self._batches[request.name]

    def list(self, request: dataproc_v1.ListBatchesRequest, _: grpc.ServicerContext) -> dataproc_v1.ListBatchesResponse:
        """Every batch of a location, on one page."""
        batches = [batch for name, batch in self._batches.items() if name.startswith(f"{request.parent}/batches/")]
        return dataproc_v1.ListBatchesResponse(batches=batches)

    def stop(self) -> None:
        """End the running batch and all its processes."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._running and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGTERM)

    def _run(self, batch: dataproc_v1.Batch) -> None:
        job = batch.pyspark_batch
        script = ROOT / urlsplit(job.main_python_file_uri).path.removeprefix(_IMAGE_ROOT)
        self._enter(batch, State.RUNNING)
        with (self._directory / f"{_id(batch)}.log").open("wb") as log:
            self._running = subprocess.Popen(  # noqa: S603 - our own job
                [sys.executable, script, *job.args],
                env=self._environment(batch),
                cwd=self._directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._enter(batch, State.FAILED if self._running.wait() else State.SUCCEEDED)

    def _environment(self, batch: dataproc_v1.Batch) -> dict[str, str]:
        given = {
            key.removeprefix(_DRIVER_VARIABLE): value
            for key, value in batch.runtime_config.properties.items()
            if key.startswith(_DRIVER_VARIABLE)
        }
        return os.environ | spark_environment(self._java) | given

    def _enter(self, batch: dataproc_v1.Batch, state: int) -> None:
        batch.state = State(state)
        self._batches[batch.name] = batch
        partial = self._directory / f"{_id(batch)}.partial"
        partial.write_text(dataproc_v1.Batch.to_json(batch))
        partial.rename(partial.with_suffix(".json"))


def spark_environment(java: Path) -> dict[str, str]:
    """What makes a plain Python process a Spark driver on this machine, seen by nobody outside it."""
    return {
        "JAVA_HOME": str(java),
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": f"--master {_MASTER} --conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def serve(port: int, directory: Path) -> None:
    """Serve until SIGTERM."""
    directory.mkdir(parents=True, exist_ok=True)
    batches = Batches(directory.resolve())
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_handler(batches)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: server.stop(grace=0.5))
    server.wait_for_termination()
    batches.stop()


def _handler(batches: Batches) -> grpc.GenericRpcHandler:
    methods = {
        "CreateBatch": _method(batches.create, dataproc_v1.CreateBatchRequest),
        "GetBatch": _method(batches.get, dataproc_v1.GetBatchRequest),
        "ListBatches": _method(batches.list, dataproc_v1.ListBatchesRequest),
    }
    return grpc.method_handlers_generic_handler(_SERVICE, methods)


type _Handler = grpc.RpcMethodHandler[Any, Any]


def _method(answer: Callable[..., Any], request: Any) -> _Handler:  # noqa: ANN401 - any message
    return grpc.unary_unary_rpc_method_handler(answer, request.deserialize, _serialise)


def _serialise(message: Message) -> bytes:
    return message.SerializeToString() if isinstance(message, Message) else type(message).serialize(message)


def _read(file: Path) -> dataproc_v1.Batch:
    batch: dataproc_v1.Batch = dataproc_v1.Batch.from_json(file.read_text())
    return batch


def _id(batch: dataproc_v1.Batch) -> str:
    return batch.name.rpartition("/")[2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="where states and logs are kept")
    serve(**vars(parser.parse_args()))
