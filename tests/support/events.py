"""Sample events, and messages as Pub/Sub pushes them."""

import base64
import uuid
from typing import Any

from shared.events import ScanAccepted, ScanRejected, ScanScored
from shared.gcp import storage
from shared.scan import file_id


def scan_accepted(**changes: Any) -> ScanAccepted:
    """Return the event of an accepted PNG, with `changes` to its fields."""
    facts = {
        "scan_id": "a" * 64,
        "label": "Cancer",
        "source": "test",
        "bucket": "scans",
        "name": "Cancer/a.png",
        "content_sha256": "b" * 64,
        "format": "PNG",
        "page": 0,
        "pages": 1,
        "width": 197,
        "height": 233,
        "size": 30,
        "uploaded_at": "2026-01-01T00:00:00+00:00",
        "accepted_at": "2026-01-01T00:00:01+00:00",
    }
    return ScanAccepted(**facts | changes)


def scan_rejected(**changes: Any) -> ScanRejected:
    """Return the event of a truncated file, with `changes` to its fields."""
    facts = {
        "file_id": "c" * 64,
        "label": "Unlabelled",
        "source": "unknown",
        "reason": "truncated",
        "generation": 7,
        "size": 3,
        "uploaded_at": "2026-01-01T00:00:00+00:00",
        "rejected_at": "2026-01-01T00:00:01+00:00",
    }
    return ScanRejected(**facts | changes)


def scan_scored(**changes: Any) -> ScanScored:
    """Return the event of a scored scan, with `changes` to its fields."""
    facts = {
        "scan_id": "a" * 64,
        "label": "Cancer",
        "source": "test",
        "model_version": "v1",
        "prediction": "Non-Cancer",
        "probability": 0.125,
        "threshold": 0.5,
        "uploaded_at": "2026-01-01T00:00:00+00:00",
        "predicted_at": "2026-01-01T00:00:02+00:00",
    }
    return ScanScored(**facts | changes)


def stored_scan(bucket: str, content: bytes, label: str = "Cancer", name: str = "", **changes: Any) -> ScanAccepted:
    """Put content into `bucket`, whatever it is, and return the event that announces it as a scan."""
    content_id = file_id(content)
    name = name or f"{label}/{content_id}.png"
    storage.create(bucket, name, content, "image/png")
    facts = {"scan_id": content_id, "content_sha256": content_id, "size": len(content)}
    return scan_accepted(**{"label": label, "bucket": bucket, "name": name} | facts | changes)


def pushed_message(data: bytes, subscription: str = "projects/p/subscriptions/s", **attributes: str) -> dict[str, Any]:
    """Return the body of a push request."""
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": attributes,
        "messageId": uuid.uuid4().hex,
        "publishTime": "2026-01-01T00:00:00Z",
    }
    return {"message": message, "subscription": subscription}
