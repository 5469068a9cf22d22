"""Which release is served: the bundled one, or the one that `current.json` in the models bucket points at."""

import logging
from collections.abc import Callable
from pathlib import Path

from services.inference.metrics import MODEL, REFUSED_RELEASES
from services.inference.settings import Settings
from shared.ml.model import Card, Model, ModelMismatch, read_release
from shared.ml.release_files import CARD_FILE, GRAPH_FILE

BUNDLED = Path(__file__).parent / "release"

logger = logging.getLogger(__name__)


class NotReady(Exception):
    """No release is loaded yet."""


class NoSuchVersion(Exception):
    """The version is not loaded."""


class ServedModels:
    """The model being served and the one served before it, which stays loaded so that a rollback takes no time."""

    def __init__(self, workers: int) -> None:
        """`workers`: threads that will run the model."""
        self._workers = workers
        self._current: Model | None = None
        self._previous: Model | None = None
        self._refused: str | None = None
        """Version last refused: its objects never change, so it is not tried again."""

    @property
    def current(self) -> Model:
        """The release being served. Raises NotReady before there is one."""
        if self._current is None:
            raise NotReady
        return self._current

    def of_version(self, version: str = "") -> Model:
        """Return the release of a version: the one served (also if empty) or the one before. Raises NoSuchVersion."""
        if not version:
            return self.current
        for model in (self.current, self._previous):
            if model and model.card.version == version:
                return model
        raise NoSuchVersion

    def load_first(self, settings: Settings) -> None:
        """Serve Vertex AI's copy, the bucket's current release or the bundled one.

        Raises ModelMismatch, StorageError or OSError if it cannot be loaded.
        """
        if settings.aip_storage_uri.startswith("gs://"):
            bucket, _, folder = settings.aip_storage_uri.removeprefix("gs://").partition("/")
            self.serve(download_release(bucket, folder.strip("/")))
            return
        if settings.models_bucket:
            self.follow()
        if self._current is None:
            self.serve(bundled_release())

    def serve(self, model: Model) -> None:
        """Warm a model and put it in the current one's place. A request in flight finishes with the one it has."""
        model.warm(self._workers)
        if self._current is not None:
            MODEL.labels(self._current.card.version).set(0)
        MODEL.labels(model.card.version).set(1)
        self._current, self._previous = model, self._current
        logger.info("serving release %s", model.card.version)

    def refresh(self) -> None:
        """Follow the pointer; if the bucket cannot be read, log it and go on serving."""
        from shared.gcp import storage  # noqa: PLC0415 - loaded by `load_first` if a bucket is named

        try:
            self.follow()
        except storage.StorageError as error:
            logger.error("%s; still serving %s", error, self.current.card.version)

    def follow(self) -> None:
        """Serve what the models bucket's pointer names. Keeps the current release if that is refused.

        Raises StorageError if the bucket cannot be read.
        """
        version = None
        try:
            version = pointed_version()
            if version in (None, self._refused) or (self._current and version == self._current.card.version):
                return
            self.serve(self._loaded(version))
            self._refused = None
        except ModelMismatch as mismatch:
            REFUSED_RELEASES.inc()
            self._refused = version
            logger.error("refused release %s: %s", version, mismatch)

    def _loaded(self, version: str) -> Model:
        from shared.gcp.registry import RELEASES  # noqa: PLC0415 - loaded by now

        if self._previous and self._previous.card.version == version:
            return self._previous
        return download_release(RELEASES.bucket(), f"{RELEASES.folder}/{version}")


def pointed_version() -> str | None:
    """Return the version that the models bucket's pointer names, None before the first release.

    Raises StorageError, or ModelMismatch if it names none.
    """
    from shared.gcp.registry import RELEASES, read_pointer  # noqa: PLC0415 - a second, paid only if a bucket is named

    return _checked(lambda: read_pointer(RELEASES).version)


def download_release(bucket: str, folder: str) -> Model:
    """Return the release under a folder of a bucket. Raises ModelMismatch if it is none, StorageError."""
    from shared.gcp import storage  # noqa: PLC0415 - as above

    card, graph = (storage.read(bucket, f"{folder}/{name}") for name in (CARD_FILE, GRAPH_FILE))
    return _checked(lambda: Model(Card.from_json(card), graph))


def bundled_release() -> Model:
    """Return the release in this folder. Raises ModelMismatch, or OSError if it is missing."""
    return _checked(lambda: read_release(BUNDLED))


def _checked[T](load: Callable[[], T]) -> T:
    """Return what `load` returns; what json, the card's fields and LiteRT raise on bad content is a ModelMismatch."""
    try:
        return load()
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelMismatch(f"not a release: {error}") from error
