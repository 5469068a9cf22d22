"""Which releases are served: the bundled one, or those that `current.json` in the models bucket names."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.challenger import Challenger
from services.inference.metrics import CHALLENGER_SHARE, MODEL, REFUSED_RELEASES, WITHDRAWN
from services.inference.settings import Settings
from shared.ml.model import FAILURES, Card, Model, ModelMismatch, read_release
from shared.ml.release_files import CARD_FILE, GRAPH_FILE

if TYPE_CHECKING:
    from services.inference.withdrawal import Withdrawal
    from shared.gcp.registry import Pointer

BUNDLED = Path(__file__).parent / "release"

logger = logging.getLogger(__name__)


class NotReady(Exception):
    """No release is loaded yet."""


class NoSuchVersion(Exception):
    """The version is not loaded."""


class ServedModels:
    """The champion, the one before it, which stays loaded so that a rollback takes no time, and a challenger."""

    def __init__(self, workers: int, *, records: bool = False) -> None:
        """`workers`: threads that will run the model; `records`: whether there is a dataset for what is decided."""
        self._records = records
        self.challenger: Challenger | None = None
        """Answers beside the current release, or for a share of the scans; None if there is none."""
        self.withdrawn: tuple[str, list[str]] | None = None
        """Version and reasons of a challenger that was withdrawn here and is still in the pointer."""
        self._withdrawn_at = 0
        """Generation of the pointer whose challenger is not taken up again."""
        self._generation = 0
        self._ending = threading.RLock()
        self._unrecorded: list[Withdrawal] = []
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
        """Warm a model and put it in the current one's place. A request in flight finishes with the one it has.

        Raises ModelMismatch if the graph does not run.
        """
        _checked(lambda: model.warm(self._workers))
        if self._current is not None:
            MODEL.labels(self._current.card.version).set(0)
        MODEL.labels(model.card.version).set(1)
        self._current, self._previous = model, self._current
        logger.info("serving release %s", model.card.version)

    def withdraw(self, challenger: Challenger, reasons: list[str]) -> None:
        """End a challenger here and now; `withdrawn` says so until the pointer does. Only the first call counts."""
        with self._ending:
            if self.challenger is not challenger:
                return
            self._end_challenger()
            self._withdraw(challenger.model.card.version, reasons)

    def refresh(self) -> None:
        """Follow the pointer, and take a withdrawn challenger out of it; if the bucket is out of reach, log it."""
        from shared.gcp import registry, storage  # noqa: PLC0415 - loaded by `load_first` if a bucket is named

        try:
            self._tell_of_withdrawn()
            self.follow()
        except (storage.StorageError, registry.PointerMoved) as error:
            logger.error("%s; still serving %s", error, self.current.card.version)

    def _tell_of_withdrawn(self) -> None:
        if not self.withdrawn and not self._unrecorded:
            return
        from services.inference import withdrawal  # noqa: PLC0415 - BigQuery's client is loaded if there is a row

        if self.withdrawn:
            ended = withdrawal.end(*self.withdrawn)
            self._unrecorded += [ended] if ended and self._records else []
            self.withdrawn = None
        self._unrecorded = [one for one in self._unrecorded if not withdrawal.record(one)]

    def follow(self) -> None:
        """Serve what the models bucket's pointer names. Keeps the current release if that is refused.

        Raises StorageError if the bucket cannot be read.
        """
        from shared.gcp import storage  # noqa: PLC0415 - as in `refresh`

        try:
            pointer = read_pointer()
        except ModelMismatch as mismatch:
            self._refuse(None, mismatch)
            return
        self._follow_champion(pointer.version)
        try:
            self._follow_challenger(pointer)
        except storage.StorageError as error:  # whatever is wrong with a challenger, the champion is served
            logger.error("%s; release %s does not answer beside the current one", error, pointer.challenger)

    def _follow_champion(self, version: str | None) -> None:
        if not version or version == self._refused or (self._current and version == self._current.card.version):
            return
        try:
            self.serve(self._loaded(version))
            self._refused = None
        except ModelMismatch as mismatch:
            self._refuse(version, mismatch)

    def _refuse(self, version: str | None, mismatch: ModelMismatch) -> None:
        REFUSED_RELEASES.inc()
        self._refused = version
        logger.error("refused release %s: %s", version, mismatch)

    def _follow_challenger(self, pointer: "Pointer") -> None:
        version, self._generation = pointer.challenger, pointer.generation
        if self._current is None or version in (None, self._current.card.version):
            self.withdrawn = None
            self._end_challenger()
        elif version and pointer.generation != self._withdrawn_at:
            self._challenge(version, pointer.share)

    def _challenge(self, version: str, share: float) -> None:
        """Compare the challenger of a version from now on; one that cannot be run is withdrawn."""
        challenger = self.challenger
        if challenger is None or challenger.model.card.version != version:
            try:
                challenger = Challenger(self._warm(version), share, self.withdraw)
            except ModelMismatch as mismatch:
                self._end_challenger()
                self._withdraw(version, [str(mismatch)])
                return
            self._end_challenger()
            self.challenger = challenger
            logger.info("release %s answers beside the current one", version)
        with self._ending:
            challenger.share = share
            if self.challenger:  # it may have left its band meanwhile
                CHALLENGER_SHARE.labels(version).set(share)

    def _warm(self, version: str) -> Model:
        model = self._loaded(version)
        _checked(lambda: model.warm(self._workers))
        return model

    def _withdraw(self, version: str, reasons: list[str]) -> None:
        self._withdrawn_at, self.withdrawn = self._generation, (version, reasons)
        WITHDRAWN.inc()
        logger.warning("challenger withdrawn", extra={"version": version, "reasons": reasons})

    def _end_challenger(self) -> None:
        with self._ending:
            if self.challenger:
                CHALLENGER_SHARE.remove(self.challenger.model.card.version)
                self.challenger = None

    def _loaded(self, version: str) -> Model:
        from shared.gcp.registry import RELEASES  # noqa: PLC0415 - loaded by now

        known = (self._current, self._previous, self.challenger.model if self.challenger else None)
        loaded = next((model for model in known if model and model.card.version == version), None)
        return loaded or download_release(RELEASES.bucket(), f"{RELEASES.folder}/{version}")


def read_pointer() -> "Pointer":
    """Return the models bucket's pointer. Raises StorageError, or ModelMismatch if it is none."""
    from shared.gcp import registry  # noqa: PLC0415 - a second, paid only if a bucket is named

    return _checked(lambda: registry.read_pointer(registry.RELEASES))


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
    except FAILURES as error:
        raise ModelMismatch(f"not a release: {error}") from error
