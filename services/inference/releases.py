"""Which release is served: the bundled one, or the one that `current.json` in the models bucket points at."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.inference.engine import warm
from services.inference.metrics import MODEL, REFUSED_RELEASES
from shared.ml.model import CARD_FILE, GRAPH_FILE, Card, Model, ModelMismatch, read_release

BUNDLED = Path(__file__).parent / "release"
POINTER = "current.json"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Releases:
    """The model being served and the one served before it, which stays loaded so that a rollback takes no time."""

    workers: int
    current: Model | None = None
    previous: Model | None = None
    refused: str | None = None
    """Version last refused: its objects never change, so it is not tried again."""

    def serve(self, model: Model) -> None:
        """Warm a model and put it in the current one's place. A request in flight finishes with the one it has."""
        warm(model, self.workers)
        if self.current is not None:
            MODEL.labels(self.current.card.version).set(0)
        MODEL.labels(model.card.version).set(1)
        self.current, self.previous = model, self.current
        logger.info("serving release %s", model.card.version)

    def follow(self, bucket: str) -> None:
        """Serve what the bucket's pointer names, if that is another release. Keeps the current one where it is refused.

        Raises StorageError where the bucket cannot be read.
        """
        version = None
        try:
            version = pointed_version(bucket)
            if version in (None, self.refused) or (self.current and version == self.current.card.version):
                return
            self.serve(self._loaded(bucket, version))
            self.refused = None
        except ModelMismatch as mismatch:
            REFUSED_RELEASES.inc()
            self.refused = version
            logger.error("refused release %s: %s", version, mismatch)

    def _loaded(self, bucket: str, version: str) -> Model:
        if self.previous and self.previous.card.version == version:
            return self.previous
        return download_release(bucket, f"releases/{version}")


def pointed_version(bucket: str) -> str | None:
    """The version that `current.json` names; None before the first release. Raises StorageError, ModelMismatch."""
    from shared.gcp import storage  # noqa: PLC0415 - its second of import is paid only where a bucket is named

    try:
        pointer = storage.read(bucket, POINTER)
    except storage.MissingObject:
        return None
    return _checked(lambda: str(json.loads(pointer)["version"]))


def download_release(bucket: str, folder: str) -> Model:
    """The release under a folder of a bucket. Raises ModelMismatch, also for what is no release; StorageError."""
    from shared.gcp import storage  # noqa: PLC0415 - as above

    card, graph = (storage.read(bucket, f"{folder}/{name}") for name in (CARD_FILE, GRAPH_FILE))
    return _checked(lambda: Model(Card.from_json(card), graph))


def bundled_release() -> Model:
    """The release in this folder. Raises ModelMismatch, or OSError where it is missing."""
    return _checked(lambda: read_release(BUNDLED))


def _checked[T](load: Callable[[], T]) -> T:
    """What `load` returns; what json, the card's fields and LiteRT raise on other content becomes a ModelMismatch."""
    try:
        return load()
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelMismatch(f"not a release: {error}") from error
