"""Cloud Storage: objects read whole, created once, replaced only as read."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, PreconditionFailed
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage  # type: ignore[attr-defined] # ships no types
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

type Blob = storage.Blob
"""An object of a bucket, without its content."""


class StorageError(Exception):
    """A call to Cloud Storage failed. Says which and how, never an object's name: that may name a patient."""


class MissingObject(StorageError):
    """There is no such object."""


class MissingBucket(StorageError):
    """There is no such bucket: a wrong setting, not a fact about an object."""


_CONNECTIONS = 64
"""Kept open: as many as a function's threads, and more than the gateway's senders. The client's own ten are too few for
them: each further caller opens a connection, with its TLS handshake, for one request."""


@cache
def client() -> storage.Client:
    """The process's one client, made at first use; pointed at a stand-in by STORAGE_EMULATOR_HOST."""
    made = storage.Client()
    for scheme in ("http://", "https://"):
        made._http.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return made


def read(bucket: str, name: str, generation: int | None = None) -> bytes:
    """The whole object, of one generation where given. Raises StorageError."""
    with _nameless("read", bucket):
        content: bytes = client().bucket(bucket).blob(name, generation=generation).download_as_bytes()
    return content


def stat(bucket: str, name: str) -> Blob | None:
    """Return an object with its generation, checksums and metadata but without its content, or None if there is none.

    Raises StorageError.
    """
    with _nameless("read", bucket):
        return client().bucket(bucket).get_blob(name)


def read_range(bucket: str, name: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end` (exclusive) of an object. Raises StorageError."""
    with _nameless("read", bucket):
        content: bytes = client().bucket(bucket).blob(name).download_as_bytes(start=start, end=end - 1)
    return content


def write(bucket: str, name: str, content: bytes, content_type: str, metadata: dict[str, str] | None = None) -> None:
    """Write an object, over whatever was there: for writers that always write the same. Raises StorageError."""
    blob = client().bucket(bucket).blob(name)
    blob.metadata = metadata
    with _nameless("write", bucket):
        blob.upload_from_string(content, content_type=content_type)


def create(  # noqa: PLR0913 - an object's parts, and how long the caller can wait
    bucket: str,
    name: str,
    content: bytes,
    content_type: str,
    metadata: dict[str, str] | None = None,
    *,
    within_s: float = 120,
) -> bool:
    """Create an object; False, and nothing written, where one of that name exists. Raises StorageError."""
    return replace(bucket, name, content, content_type, generation=0, metadata=metadata, within_s=within_s)


def replace(  # noqa: PLR0913 - an object's parts, and the generation it must follow
    bucket: str,
    name: str,
    content: bytes,
    content_type: str,
    *,
    generation: int,
    metadata: dict[str, str] | None = None,
    within_s: float = 120,
) -> bool:
    """Write an object over the generation last read (0: none); False where another writer came first."""
    blob = client().bucket(bucket).blob(name)
    blob.metadata = metadata
    try:
        with _nameless("create", bucket):
            _upload(blob, content, content_type, generation, within_s)
    except PreconditionFailed:
        return False
    return True


def _upload(blob: Blob, content: bytes, content_type: str, generation: int, within_s: float) -> None:
    """Raise PreconditionFailed if the name is taken, also for a caller who may not overwrite.

    Cloud Storage answers that caller 403 before it looks at the precondition.
    """
    try:
        retry = DEFAULT_RETRY.with_timeout(within_s)
        blob.upload_from_string(content, content_type=content_type, if_generation_match=generation, retry=retry)
    except Forbidden:
        if generation or not blob.exists():
            raise
        raise PreconditionFailed("taken") from None  # type: ignore[no-untyped-call]


def settle(bucket: str, name: str, content: bytes, content_type: str, metadata: dict[str, str] | None = None) -> None:
    """Make an object hold this content: created, left as it is if it holds it already, else replaced as it was read.

    For objects whose bytes follow from their name but for the version of the code. Raises StorageError, also if
    another writer came between: a retry settles it.
    """
    if create(bucket, name, content, content_type, metadata):
        return
    there = stat(bucket, name)
    digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    if there and there.md5_hash == digest:
        return
    generation = there.generation if there else 0
    if not replace(bucket, name, content, content_type, generation=generation, metadata=metadata):
        raise StorageError(f"Cloud Storage: another writer changed an object of gs://{bucket}; try again")


def copy(source: Blob, bucket: str, name: str) -> bool:
    """Copy an object inside Cloud Storage; False, and nothing written, where the name is taken. Raises StorageError."""
    try:
        with _nameless("copy to", bucket):
            source.bucket.copy_blob(
                source, client().bucket(bucket), name, source_generation=source.generation, if_generation_match=0
            )
    except PreconditionFailed:
        return False
    return True


def objects(bucket: str, prefix: str = "") -> Iterator[Blob]:
    """Every object under a prefix, without its content; folder place-holders are left out. Raises StorageError."""
    with _nameless("list", bucket):
        yield from (blob for blob in client().list_blobs(bucket, prefix=prefix) if not blob.name.endswith("/"))


def check_bucket(bucket: str) -> None:
    """Raise MissingBucket if there is no such bucket, which a read does not tell from a missing object.

    It is listed: reading a bucket's own metadata takes a role that no step has. Raises StorageError.
    """
    with _nameless("list", bucket):
        list(client().list_blobs(bucket, max_results=1))


def notification(blob: Blob) -> tuple[bytes, dict[str, str]]:
    """Return data and attributes of the message by which Cloud Storage announces an object: JSON_API_V1."""
    resource = {
        "kind": "storage#object",
        "bucket": blob.bucket.name,
        "name": blob.name,
        "generation": str(blob.generation),
        "size": str(blob.size),
        "timeCreated": blob.time_created.isoformat().replace("+00:00", "Z"),
        "contentType": blob.content_type,
        "md5Hash": blob.md5_hash,
        "crc32c": blob.crc32c,
        "metadata": blob.metadata or {},
    }
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": blob.bucket.name,
        "objectId": blob.name,
        "objectGeneration": str(blob.generation),
    }
    return json.dumps(resource).encode(), attributes


def versions(bucket: str, prefix: str = "") -> Iterator[Blob]:
    """Every version of every object under a prefix, overwritten and deleted ones included. Raises StorageError."""
    with _nameless("list", bucket):
        blobs = client().list_blobs(bucket, prefix=prefix, versions=True)
        yield from (blob for blob in blobs if not blob.name.endswith("/"))


def erase(blob: Blob) -> None:
    """Delete one version of an object for good; nothing happens where it is gone. Raises StorageError."""
    with suppress(MissingObject), _nameless("delete", blob.bucket.name):
        blob.bucket.delete_blob(blob.name, generation=blob.generation)


def fingerprint(blob: Blob) -> str:
    """What tells an object's content without reading it: its MD5, or the CRC32C and size of a composite object."""
    if blob.md5_hash:
        return base64.b64decode(blob.md5_hash).hex()
    return f"{base64.b64decode(blob.crc32c).hex()}-{blob.size}"


@contextmanager
def _nameless(call: str, bucket: str) -> Iterator[None]:
    try:
        yield
    except PreconditionFailed:
        raise
    except NotFound:
        if call == "list":
            raise MissingBucket(f"Cloud Storage: there is no bucket gs://{bucket}") from None
        raise MissingObject(f"Cloud Storage: no such object in gs://{bucket}") from None
    except GoogleAuthError:
        raise StorageError("Cloud Storage: no credentials; try `gcloud auth application-default login`") from None
    except GoogleAPIError as error:  # a RetryError quotes the object's address
        cause = getattr(error, "code", None) or type(error).__name__
        raise StorageError(f"Cloud Storage: cannot {call} gs://{bucket}: {cause}") from None
