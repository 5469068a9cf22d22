"""Released models in the models bucket: immutable versions, and the pointer to the current one."""

import json
import time
from functools import lru_cache

from shared import config
from shared.gcp import storage
from shared.ml.model import CARD_FILE, GRAPH_FILE, Card, Model

POINTER = "current.json"
_POINTER_TTL_S = 60
"""How long a step may go on with the previous model after a release or a rollback."""


def current() -> Model:
    """The current release, loaded once a version; the pointer is read again every minute. Raises ModelMismatch."""
    return load(_version(int(time.monotonic() / _POINTER_TTL_S)))


@lru_cache(maxsize=2)
def load(version: str) -> Model:
    """One version. Raises ModelMismatch where its graph and card disagree, StorageError where it cannot be read."""
    return Model(Card.from_json(_read(version, CARD_FILE)), _read(version, GRAPH_FILE))


def _read(version: str, file: str) -> bytes:
    return storage.read(config.models_bucket(), f"releases/{version}/{file}")


@lru_cache(maxsize=1)
def _version(_minute: int) -> str:
    return json.loads(storage.read(config.models_bucket(), POINTER))["version"]
