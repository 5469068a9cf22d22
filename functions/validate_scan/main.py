"""scan-uploaded -> a scan in the scans bucket and scan-accepted, or a record in quarantine and scan-rejected."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import batched, chain

import functions_framework
from cloudevents.http import CloudEvent

from shared import config, scan
from shared.errors import RejectedScan
from shared.events import ScanAccepted, ScanRejected, ScanUploaded
from shared.gcp import logs, pubsub, storage
from shared.intake.validation import HEAD_BYTES, BurntInText, check_readable, rejection, validated

logs.configure()
logger = logging.getLogger(__name__)

_WRITERS = 16
"""Pages written at a time: a thousand one after the other would take longer than a message may."""
_VALIDATING = threading.Semaphore(2)
"""Files decoded, and their first page searched for text, at a time: one a core, since all else is waiting."""


@functions_framework.cloud_event
def validate_scan(cloud_event: CloudEvent) -> None:
    """Validate one upload. RejectedScan is permanent and acknowledged; everything else propagates and is retried.

    An upload that its owner has deleted for good since is withdrawn: there is nothing to validate, now or later.
    """
    upload = ScanUploaded.from_push(cloud_event.data)
    if upload.is_folder:
        return
    content = None
    try:
        content = _read(upload)
        if content is None:
            logger.info("withdrawn", extra={"generation": upload.generation})
            return
        accepted = list(_store(upload, content))
    except RejectedScan as rejected:
        _quarantine(upload, rejection(upload, content, rejected.reason))
    else:
        pubsub.publish(accepted)
        file_id = scan.file_id_of(accepted[0].scan_id)
        logger.info("accepted", extra={"file_id": file_id, "pages": len(accepted), "format": accepted[0].format})


def _read(upload: ScanUploaded) -> bytes | None:
    """Return the bytes of an upload, None if it is gone for good from a bucket that is there.

    Raises RejectedScan for one too large to be read.
    """
    try:
        check_readable(upload.size, lambda: storage.read_range(upload.bucket, upload.name, 0, HEAD_BYTES))
        return storage.read(upload.bucket, upload.name, upload.generation)
    except storage.MissingObject:
        storage.check_bucket(upload.bucket)
        return None


def _store(upload: ScanUploaded, content: bytes) -> Iterator[ScanAccepted]:
    """Write every page of a file, once the whole of it has proved good, some at a time.

    An object that an earlier version of the decoder wrote otherwise is replaced, so that the event describes what lies
    there.
    """

    def write(page: tuple[ScanAccepted, bytes]) -> ScanAccepted:
        event, stored = page
        extension = event.name.rpartition(".")[2]
        storage.settle(event.bucket, event.name, stored, f"image/{extension}", metadata=_origin(upload))
        return event

    text = BurntInText(config.burnt_in_text())
    pages = validated(upload, content, config.scans_bucket(), config.pseudonym_key(), text)
    with _VALIDATING:
        first = next(pages)
    with ThreadPoolExecutor(_WRITERS) as threads:
        for group in batched(chain([first], pages), _WRITERS, strict=False):
            yield from threads.map(write, group) if len(group) > 1 else map(write, group)


def _quarantine(upload: ScanUploaded, event: ScanRejected) -> None:
    """Record why a file was rejected. Its bytes stay where they were uploaded: a header in them may name a patient."""
    name = scan.quarantine_object(upload.label, event.file_id)
    record = json.dumps(asdict(event), indent=2).encode()
    storage.create(config.quarantine_bucket(), name, record, "application/json", metadata=_origin(upload))
    pubsub.publish([event])
    logger.warning("rejected", extra={"file_id": event.file_id, "reason": event.reason})


def _origin(upload: ScanUploaded) -> dict[str, str]:
    return {"source": upload.source, "uploaded-at": upload.uploaded_at}
