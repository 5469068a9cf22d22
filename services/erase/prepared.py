"""Objects of the prepared bucket without the scans of one file: Parquet files, manifests, results."""

import io
import itertools
import json
from collections.abc import Iterator

import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared import config
from shared.gcp import storage
from shared.gcp.storage import Blob, StorageError
from shared.ml import manifests
from shared.ml.dataset import PARTITIONS, TRAINING_SCANS
from shared.scan import file_id_of


def rewrite(file_id: str, *, dry_run: bool) -> int:
    """Write every object that names scans of a file again without them; return how many did. Raises StorageError."""
    count, bucket = 0, config.prepared_bucket()
    # Manifests first: with one of them results go that would be listed too.
    others = (blob for blob in storage.objects(bucket) if not blob.name.startswith(manifests.FOLDER))
    for blob in itertools.chain(storage.objects(bucket, manifests.FOLDER), others):
        content, metadata = _content(blob), dict(blob.metadata or {})
        kept, metadata = _without(blob.name, content, metadata, file_id)
        if kept != content:
            count += 1
            if not dry_run:
                _replace(blob, kept, metadata)
    return count


def earlier_versions(file_id: str) -> Iterator[Blob]:
    """Yield the versions that name scans of a file and that another has replaced, or somebody deleted."""
    for blob in storage.versions(config.prepared_bucket()):
        if blob.time_deleted and _without(blob.name, content := _content(blob), {}, file_id)[0] != content:
            yield blob


def _content(blob: Blob) -> bytes:
    return storage.read(blob.bucket.name, blob.name, blob.generation)


def _replace(blob: Blob, content: bytes, metadata: dict[str, str]) -> None:
    bucket, name = blob.bucket.name, blob.name
    if name.endswith(".jsonl"):
        _forget_partitions(bucket, name.removeprefix(manifests.FOLDER).partition("/")[0])
    if not storage.replace(bucket, name, content, blob.content_type, generation=blob.generation, metadata=metadata):
        raise StorageError("Cloud Storage: another writer changed an object of the prepared bucket")


def _forget_partitions(bucket: str, manifest: str) -> None:
    """Erase what a manifest's partitions came to.

    They are cut by the manifest's bytes: a batch that goes on with a shorter one would leave scans out between them.
    """
    for blob in storage.objects(bucket, PARTITIONS):
        if f"/{manifest}/" in blob.name:
            storage.erase(blob)


def _without(name: str, content: bytes, metadata: dict[str, str], file_id: str) -> tuple[bytes, dict[str, str]]:
    """Return an object's content and metadata without the scans of a file; the same if it names none."""
    if name.endswith(".parquet"):
        return _without_rows(content, metadata, file_id)
    if file_id.encode() not in content:
        return content, metadata
    if name.endswith(".jsonl"):
        return b"".join(line for line in content.splitlines(keepends=True) if file_id.encode() not in line), metadata
    return _without_errors(content, file_id), metadata


def _without_rows(content: bytes, metadata: dict[str, str], file_id: str) -> tuple[bytes, dict[str, str]]:
    table = pq.read_table(io.BytesIO(content))
    if "scan_id" not in table.column_names:
        return content, metadata
    kept = table.filter(pc.invert(pc.starts_with(table["scan_id"], file_id)))
    if len(kept) == len(table):
        return content, metadata
    file = io.BytesIO()
    pq.write_table(kept, file, compression="zstd", compression_level=1)
    if TRAINING_SCANS in metadata:
        metadata[TRAINING_SCANS] = str(kept["split"].to_pylist().count("train"))
    return file.getvalue(), metadata


def _without_errors(content: bytes, file_id: str) -> bytes:
    """Return a result or a summary, which names the scans that could not be prepared, without those of a file.

    Raises StorageError for an object of another kind: what it says of the scan would stay.
    """
    try:
        document = json.loads(content)
        document["errors"] = [error for error in document["errors"] if file_id_of(error["scan_id"]) != file_id]
    except (KeyError, TypeError, ValueError):
        raise StorageError("Cloud Storage: an object of the prepared bucket names the scan in an unknown way") from None
    return json.dumps(document, indent=2).encode()
