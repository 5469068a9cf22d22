"""Dataproc Serverless: one batch for each manifest, whoever asks and however often."""

import itertools
import os
from functools import cache

import grpc
from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud import dataproc_v1
from google.cloud.dataproc_v1.services.batch_controller.transports import BatchControllerGrpcTransport

from shared import config

State = dataproc_v1.Batch.State

_JOB = "file:///app/services/preprocessing/__main__.py"
"""The Spark job inside its own image."""

_ENVIRONMENT = ("GOOGLE_CLOUD_PROJECT", "PREPARED_BUCKET", "MODELS_BUCKET", "DATASET")

_HELLO = "us-docker.pkg.dev/cloudrun/container/"
"""Where the images of a first apply come from (terraform/bootstrap.sh), which no batch could run."""

_MAX_ATTEMPTS = 5


class BatchFailing(Exception):
    """Every batch of a manifest failed."""


@cache
def client() -> dataproc_v1.BatchControllerClient:
    """The process's one client, made at first use; DATAPROC_EMULATOR_HOST (host:port) points it at a stand-in."""
    if emulator := os.environ.get("DATAPROC_EMULATOR_HOST"):
        transport = BatchControllerGrpcTransport(channel=grpc.insecure_channel(emulator))
        return dataproc_v1.BatchControllerClient(transport=transport)
    return dataproc_v1.BatchControllerClient(
        client_options={"api_endpoint": f"{config.region()}-dataproc.googleapis.com:443"}
    )


def has_image() -> bool:
    """Return whether the image of the Spark job is built: until the first build a hello page stands in its place."""
    return _HELLO not in config.batch_template()


def submit(manifest: str) -> bool:
    """Submit the batch of an unfinished manifest; False where one is under way already.

    The batch's id is made of the manifest's and the number of the attempt, so that two callers start one batch.
    Raises BatchFailing when five attempts failed: somebody must read the batch's log.
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        batch_id = f"{config.name_prefix()}prepare-{manifest}-{attempt}"
        match _state(batch_id):
            case None:
                return _create(batch_id, manifest)
            case State.PENDING | State.RUNNING | State.CANCELLING | State.STATE_UNSPECIFIED:
                return False
    raise BatchFailing(
        f"Manifest {manifest}: {_MAX_ATTEMPTS} batches failed. Read the log of {batch_id}, then delete its batches."
    )


def _state(batch_id: str) -> State | None:
    try:
        return client().get_batch(name=f"{_parent()}/batches/{batch_id}").state
    except NotFound:
        return None


def _create(batch_id: str, manifest: str) -> bool:
    try:
        client().create_batch(parent=_parent(), batch=_batch(manifest), batch_id=batch_id)
    except AlreadyExists:
        return False
    return True


def _batch(manifest: str) -> dataproc_v1.Batch:
    """Terraform's template (image, account, network, scaling, history) with the job, its manifest and environment."""
    batch: dataproc_v1.Batch = dataproc_v1.Batch.from_json(config.batch_template())
    batch.pyspark_batch = dataproc_v1.PySparkBatch(main_python_file_uri=_JOB, args=["--manifest", manifest])
    for process, name in itertools.product(("spark.dataproc.driverEnv", "spark.executorEnv"), _ENVIRONMENT):
        batch.runtime_config.properties[f"{process}.{name}"] = os.environ[name]
    return batch


def _parent() -> str:
    return f"projects/{config.project()}/locations/{config.region()}"
