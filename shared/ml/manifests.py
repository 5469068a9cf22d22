"""Manifests: the scans of one preprocessing batch, a line of JSON each, named by what they list."""

import hashlib
from collections.abc import Iterable

from shared.events import ScanAccepted

FOLDER = "manifests/"


def serialise(events: Iterable[ScanAccepted]) -> tuple[str, bytes]:
    """Return id and content of the manifest of these scans. Order and duplicates change neither."""
    lines = {(event.label, event.scan_id): event.to_json() for event in events}
    content = b"".join(lines[key] + b"\n" for key in sorted(lines))
    return hashlib.sha256(content).hexdigest()[:32], content


def parse(content: bytes) -> list[ScanAccepted]:
    """Return the scans of a manifest, or of whole lines of it."""
    return [ScanAccepted.from_json(line) for line in content.splitlines()]


def manifest_object(manifest: str) -> str:
    """Return the name of a manifest in the prepared bucket."""
    return f"{FOLDER}{manifest}/scans.jsonl"


def success_object(manifest: str) -> str:
    """Return the name of the object that exists once all scans of a manifest are prepared and their features loaded."""
    return f"{FOLDER}{manifest}/_SUCCESS"
