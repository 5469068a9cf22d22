"""Cloud Scheduler -> manifests of the scans accepted since, and a Spark batch for each that is unfinished."""

import logging
import time

import flask
import functions_framework

from shared import config
from shared.clock import seconds_since
from shared.events import ScanAccepted, event_of, set_aside
from shared.gcp import dataproc, logs, pubsub, storage
from shared.gcp.pubsub import Pulled
from shared.ml import manifests
from shared.scan import SYNTHETIC

logs.configure()
logger = logging.getLogger(__name__)

_SUBSCRIPTION = "preprocessing"
_DEAD_LETTERS = "preprocessing-dead-letter"
_MANIFEST_SCANS = 50_000
"""What one batch takes: 25 MB of manifest, and an hour's work for a dozen cores."""
_FEWEST_SCANS = 1_000
"""A batch costs some five cents before its first scan, and many small objects slow every reader down."""
_LONGEST_WAIT_S = 86_400
"""Fewer scans than that wait no longer than a day."""
_GATHER_S = 60
"""How long scans of one manifest are pulled: under steady traffic the subscription is never empty."""
_DRAIN_S = 240
"""Time after which the rest is left to the next call, well within the messages' deadline and the function's own."""


@functions_framework.http
def start_preprocessing(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Drain the subscription into manifests, then submit every manifest that has no `_SUCCESS`.

    A scan is acknowledged only when its manifest is written. Scans fewer than `fewest` (a query parameter) wait for
    others, a day at most. Raises ExceptionGroup of BatchFailing for manifests that five batches could not finish, after
    all others are submitted.
    """
    scans = _drain(request.args.get("fewest", _FEWEST_SCANS, type=int))
    if not dataproc.has_image():  # five batches would fail, and somebody would have to delete them
        logger.warning("no image for Spark yet", extra={"scans": scans})
        return {"scans": scans, "submitted": []}
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


def _drain(fewest: int) -> int:
    deadline = time.monotonic() + _DRAIN_S
    scans = 0
    while time.monotonic() < deadline and (pulled := pubsub.pull("preprocessing", _MANIFEST_SCANS, _GATHER_S)):
        if len(pulled) < fewest and max(seconds_since(each.published_at) for each in pulled) < _LONGEST_WAIT_S:
            pubsub.release(_SUBSCRIPTION, pulled)
            break
        scans += _write_manifest(pulled)
    return scans


def _write_manifest(pulled: list[Pulled]) -> int:
    """Write the manifest of the scans among these messages, and set aside what is no scan. Return how many scans.

    Synthetic scans are passed over: nobody shall learn from them.
    """
    scans: list[ScanAccepted] = []
    for message in pulled:
        try:
            scan = _scan(message)
            scans += [] if scan.source == SYNTHETIC else [scan]
        except (KeyError, TypeError, ValueError) as error:  # the message's fault: it will never be a scan
            attributes = set_aside(_SUBSCRIPTION, message.published_at, message.attempts, f"no scan: {error!r:.80}")
            pubsub.publish_messages([(_DEAD_LETTERS, message.data, {**message.attributes, **attributes})])
            logger.warning("set aside", extra={"subscription": _SUBSCRIPTION})
    if scans:
        manifest, content = manifests.serialise(scans)
        storage.create(config.prepared_bucket(), manifests.manifest_object(manifest), content, "application/jsonl")
    pubsub.acknowledge(_SUBSCRIPTION, pulled)
    return len(scans)


def _scan(message: Pulled) -> ScanAccepted:
    """Return the scan that a message announces. Raises KeyError, TypeError or ValueError if it announces none."""
    event = event_of(message.attributes, message.data)
    if not isinstance(event, ScanAccepted):
        raise TypeError("another event")
    return event


def _unfinished() -> list[str]:
    names = {blob.name for blob in storage.objects(config.prepared_bucket(), manifests.FOLDER)}
    found = sorted({name.split("/")[1] for name in names})
    return [manifest for manifest in found if manifests.success_object(manifest) not in names]
