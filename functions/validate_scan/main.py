"""scan-uploaded -> a scan in the scans bucket and scan-accepted, or a record in quarantine and scan-rejected."""

import base64
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict

import functions_framework
from cloudevents.http import CloudEvent

from shared import config, scan
from shared.clock import now
from shared.errors import Reason, RejectedScan
from shared.events import ScanAccepted, ScanRejected, ScanUploaded
from shared.gcp import logs, pubsub, storage
from shared.imaging.decoding import decode, encode_png

logs.configure()
logger = logging.getLogger(__name__)


@functions_framework.cloud_event
def validate_scan(cloud_event: CloudEvent) -> None:
    """Validate one upload. RejectedScan is permanent and acknowledged; everything else propagates and is retried."""
    upload = ScanUploaded.from_push(cloud_event.data)
    if upload.is_folder:
        return
    file_id = scan.unread_file_id(upload.bucket, upload.name, upload.generation)
    try:
        if upload.size > scan.MAX_BYTES:
            raise RejectedScan(Reason.TOO_LARGE)
        content = storage.read(upload.bucket, upload.name, upload.generation)
        file_id = scan.file_id(content)
        accepted = list(_store(upload, file_id, content))
    except RejectedScan as rejection:
        _quarantine(upload, file_id, rejection.reason)
    else:
        pubsub.publish(accepted)
        logger.info("accepted", extra={"file_id": file_id, "pages": len(accepted), "format": accepted[0].format})


def _store(upload: ScanUploaded, file_id: str, content: bytes) -> Iterator[ScanAccepted]:
    """Write every page of a file, once the whole of it has proved good."""
    decoded = decode(content)
    if decoded.passes_through:
        pages = [(page.shape, content, decoded.format.lower()) for page in decoded.pages]
    else:
        pages = [(page.shape, encode_png(page), "png") for page in decoded.pages]
    for number, ((height, width, *_), stored, extension) in enumerate(pages):
        scan_id = scan.scan_id(file_id, number, len(pages))
        name = scan.scan_object(upload.label, scan_id, extension)
        storage.create(config.scans_bucket(), name, stored, f"image/{extension}", metadata=_origin(upload))
        yield ScanAccepted(
            scan_id=scan_id,
            label=upload.label,
            source=upload.source,
            bucket=config.scans_bucket(),
            name=name,
            content_sha256=scan.file_id(stored),
            format=decoded.format,
            page=number,
            pages=len(pages),
            width=width,
            height=height,
            size=len(stored),
            uploaded_at=upload.uploaded_at,
            accepted_at=now(),
            content_md5=_md5(content),
            generation=upload.generation,
        )


def _quarantine(upload: ScanUploaded, file_id: str, reason: Reason) -> None:
    """Record why a file was rejected. Its bytes stay where they were uploaded: a header in them may name a patient."""
    rejected = ScanRejected(
        file_id=file_id,
        label=upload.label,
        source=upload.source,
        reason=reason,
        generation=upload.generation,
        size=upload.size,
        uploaded_at=upload.uploaded_at,
        rejected_at=now(),
    )
    record = json.dumps(asdict(rejected), indent=2).encode()
    name = scan.quarantine_object(upload.label, file_id)
    storage.create(config.quarantine_bucket(), name, record, "application/json", metadata=_origin(upload))
    pubsub.publish([rejected])
    logger.warning("rejected", extra={"file_id": file_id, "reason": reason})


def _md5(content: bytes) -> str:
    """MD5 of a file as Cloud Storage gives it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _origin(upload: ScanUploaded) -> dict[str, str]:
    return {"source": upload.source, "uploaded-at": upload.uploaded_at}
