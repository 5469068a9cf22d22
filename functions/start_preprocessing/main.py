"""Cloud Scheduler -> manifests of the scans accepted since, and a Spark batch for each that is unfinished."""

import logging
import time

import flask
import functions_framework

from shared import config
from shared.gcp import dataproc, logs, pubsub, storage
from shared.ml import manifests

logs.configure()
logger = logging.getLogger(__name__)

_SUBSCRIPTION = "preprocessing"
_MANIFEST_SCANS = 50_000
"""What one batch takes: 25 MB of manifest, and an hour's work for a dozen cores."""
_DRAIN_S = 240
"""Time after which the rest is left to the next call, well within the messages' deadline and the function's own."""


@functions_framework.http
def start_preprocessing(_request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Drain the subscription into manifests, then submit every manifest that has no `_SUCCESS`.

    A scan is acknowledged only when its manifest is written. Raises BatchFailing for a manifest that five batches
    could not finish, after all others are submitted.
    """
    scans = _drain()
    submitted, failing = [], []
    for manifest in _unfinished():
        try:
            submitted += [manifest] if dataproc.submit(manifest) else []
        except dataproc.BatchFailing as error:
            failing.append(error)
    logger.info("preprocessing started", extra={"scans": scans, "batches": len(submitted)})
    if failing:
        raise ExceptionGroup("Preprocessing is stuck", failing)
    return {"scans": scans, "submitted": submitted}


def _drain() -> int:
    deadline = time.monotonic() + _DRAIN_S
    scans = 0
    while time.monotonic() < deadline and (messages := pubsub.pull(_SUBSCRIPTION, _MANIFEST_SCANS)):
        manifest, content = manifests.serialise(message.event for message in messages)
        storage.create(config.prepared_bucket(), manifests.manifest_object(manifest), content, "application/jsonl")
        pubsub.acknowledge(_SUBSCRIPTION, messages)
        scans += len(messages)
    return scans


def _unfinished() -> list[str]:
    names = {blob.name for blob in storage.objects(config.prepared_bucket(), manifests.FOLDER)}
    found = sorted({name.split("/")[1] for name in names})
    return [manifest for manifest in found if manifests.success_object(manifest) not in names]
