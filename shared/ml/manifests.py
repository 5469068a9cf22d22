"""Manifests: the scans of one preprocessing batch, a line of JSON each, named by what they list."""

import hashlib
from collections.abc import Iterable

from shared.events import ScanAccepted

FOLDER = "manifests/"


def serialise(events: Iterable[ScanAccepted]) -> tuple[str, bytes]:
    """Id and content of the manifest of these scans. Order and duplicates change neither."""
    lines = {(event.label, event.scan_id): event.to_json() for event in events}
    content = b"".join(lines[key] + b"\n" for key in sorted(lines))
    return hashlib.sha256(content).hexdigest()[:32], content


def parse(content: bytes) -> list[ScanAccepted]:
    """The scans of a manifest, or of whole lines of it."""
    return [ScanAccepted.from_json(line) for line in content.splitlines()]


def manifest_object(manifest: str) -> str:
    """Name of a manifest in the prepared bucket."""
    return f"{FOLDER}{manifest}/scans.jsonl"


def partitions_folder(manifest: str) -> str:
    """Where the objects lie that say what became of each part of a manifest."""
    return f"parts/{manifest}/"


def partition_object(manifest: str, part: int) -> str:
    """Name of the object that says what became of one part of a manifest."""
    return f"{partitions_folder(manifest)}{part:05d}.json"


def success_object(manifest: str) -> str:
    """Name of the object whose existence says that all of a manifest is prepared, described and loaded."""
    return f"{FOLDER}{manifest}/_SUCCESS"
