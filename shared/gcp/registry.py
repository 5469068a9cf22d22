"""Versioned artefacts in a bucket: versions that never change, and one pointer that says which of them is current.

Released models and PCA bases are kept alike: the files of a version under `<folder>/<version>/`, and a pointer
`{"version": ..., "previous": ...}` that moves only over the generation that was read: of two writers one is refused.
The releases' pointer also names the challenger and its share, so that who answers whom changes in one write.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from shared import config
from shared.gcp import storage
from shared.ml.release_files import CARD_FILE, GRAPH_FILE
from shared.scan import SOURCE_PATTERN

if TYPE_CHECKING:
    from shared.ml.model import Model
    from shared.ml.pca import Basis

_POINTER_TTL_S = 60
"""How long a step may go on with the previous version after the pointer moved."""

BASIS_FILE = "basis.npz"


class PointerMoved(Exception):
    """Another writer moved the pointer since it was read: look at what is current, then decide again."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Where one kind of artefact lies."""

    bucket: Callable[[], str]
    folder: str
    pointer: str
    """Object name of the pointer."""

    def object(self, version: str, file: str) -> str:
        """Return the object name of one file of a version."""
        return f"{self.folder}/{version}/{file}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the pointer said when it was read."""

    version: str | None
    """None before the first version, and where the last one was withdrawn."""
    previous: str | None
    generation: int
    """Of the pointer's object; 0 before the first version."""
    challenger: str | None = None
    """Version that answers beside the current one, if there is one."""
    share: float = 0.0
    """Of the scans that the challenger answers, 0 to 1; 0 while it answers in shadow."""


RELEASES = Registry(config.models_bucket, "releases", "current.json")
BASES = Registry(config.prepared_bucket, "bases", "bases/current.json")


def calibrations(source: str) -> Registry:
    """Return where the calibrations of one source lie (`shared.ml.site_calibration`)."""
    return Registry(config.models_bucket, f"calibrations/{source}", f"calibrations/{source}/current.json")


def commissioned() -> dict[str, int]:
    """Return the generation of the pointer of every source that was ever commissioned. Raises StorageError."""
    names = re.compile(rf"calibrations/({SOURCE_PATTERN})/current\.json")
    blobs = storage.objects(config.models_bucket(), "calibrations/")
    return {found[1]: int(blob.generation) for blob in blobs if (found := names.fullmatch(blob.name))}


def read_pointer(registry: Registry) -> Pointer:
    """Return the pointer as it stands now. Raises StorageError."""
    blob = storage.stat(registry.bucket(), registry.pointer)
    if blob is None:
        return Pointer(None, None, 0)
    content = json.loads(storage.read(registry.bucket(), registry.pointer, blob.generation))
    return Pointer(
        content["version"],
        content.get("previous"),
        blob.generation,
        content.get("challenger"),
        float(content.get("share", 0)),
    )


def current_version(registry: Registry) -> str | None:
    """Return the version that the pointer named within the last minute; None before the first. Raises StorageError."""
    return _version(registry.bucket(), registry.pointer, int(time.monotonic() / _POINTER_TTL_S))


def read_file(registry: Registry, version: str, file: str) -> bytes:
    """Return the content of one file of a version. Raises StorageError."""
    return storage.read(registry.bucket(), registry.object(version, file))


def add_version(registry: Registry, version: str, files: Mapping[str, bytes]) -> None:
    """Store the files of a version; those that exist are left as they are. Raises StorageError."""
    for file, content in files.items():
        storage.create(registry.bucket(), registry.object(version, file), content, "application/octet-stream")


def move_pointer(registry: Registry, version: str | None, seen: Pointer) -> None:
    """Make a version current in place of the one `seen`, which becomes the previous one; no challenger is left.

    None: no version is current from then on, as of a source whose calibration is withdrawn. Raises PointerMoved if the
    pointer is no longer as seen, StorageError.
    """
    _replace_pointer(registry, {"version": version, "previous": seen.version}, seen)


def set_challenger(registry: Registry, challenger: str | None, share: float, seen: Pointer) -> None:
    """Let a version answer beside the current one: in shadow (share 0) or a share of the scans; None: nobody does.

    Raises PointerMoved if the pointer is no longer as seen, StorageError.
    """
    beside = {"challenger": challenger, "share": share} if challenger else {}
    _replace_pointer(registry, {"version": seen.version, "previous": seen.previous} | beside, seen)


def _replace_pointer(registry: Registry, content: Mapping[str, object], seen: Pointer) -> None:
    bucket, name = registry.bucket(), registry.pointer
    if not storage.replace(bucket, name, json.dumps(content).encode(), "application/json", generation=seen.generation):
        raise PointerMoved("Another writer moved the pointer: look at what is current, then try again.")
    _version.cache_clear()


def current_model() -> "Model":
    """Return the current release, loaded once per version.

    Raises LookupError before the first release, ModelMismatch, StorageError.
    """
    version = current_version(RELEASES)
    if version is None:
        raise LookupError("The models bucket has no current release: promote one.")
    return load_model(version)


@lru_cache(maxsize=2)
def load_model(version: str) -> "Model":
    """Return one release. Raises ModelMismatch if its graph and card disagree, StorageError if it cannot be read."""
    from shared.ml.model import Card, Model  # noqa: PLC0415 - some readers have no LiteRT

    card = Card.from_json(read_file(RELEASES, version, CARD_FILE))
    return Model(card, read_file(RELEASES, version, GRAPH_FILE))


def current_basis() -> "Basis | None":
    """Return the current PCA basis, or None before one is fitted. Raises StorageError."""
    version = current_version(BASES)
    return load_basis(version) if version else None


@lru_cache(maxsize=2)
def load_basis(version: str) -> "Basis":
    """Return one PCA basis. Raises StorageError."""
    from shared.ml.pca import Basis  # noqa: PLC0415 - some readers have no NumPy

    return Basis.from_bytes(read_file(BASES, version, BASIS_FILE))


@lru_cache(maxsize=2)
def _version(bucket: str, pointer: str, _minute: int) -> str | None:
    try:
        return str(json.loads(storage.read(bucket, pointer))["version"])
    except storage.MissingObject:
        return None
