"""Fitted bases in the prepared bucket: immutable versions, and the pointer to the current one."""

import json
import time
from functools import lru_cache

from shared import config
from shared.gcp import storage
from shared.ml.pca import Basis

_POINTER = "bases/current.json"
_POINTER_TTL_S = 60
"""How long a step may go on with the previous basis after another was fitted."""


def current() -> Basis | None:
    """The current basis, or None where none was fitted yet; the pointer is read again every minute."""
    version = _version(int(time.monotonic() / _POINTER_TTL_S))
    return load(version) if version else None


def current_version() -> str | None:
    """Version of the current basis as the pointer says now, or None where none was fitted yet."""
    try:
        return json.loads(storage.read(config.prepared_bucket(), _POINTER))["version"]
    except storage.MissingObject:
        return None


@lru_cache(maxsize=2)
def load(version: str) -> Basis:
    """One version. Raises StorageError."""
    return Basis.from_bytes(storage.read(config.prepared_bucket(), _object(version)))


def publish(basis: Basis, *, instead: bool) -> None:
    """Store a basis and make it the current one, `instead` of another that already is or only where there is none.

    A version that exists already is left as it is.
    """
    storage.create(config.prepared_bucket(), _object(basis.version), basis.to_bytes(), "application/octet-stream")
    point = storage.write if instead else storage.create
    point(config.prepared_bucket(), _POINTER, json.dumps({"version": basis.version}).encode(), "application/json")


@lru_cache(maxsize=1)
def _version(_minute: int) -> str | None:
    return current_version()


def _object(version: str) -> str:
    return f"bases/{version}.npz"
