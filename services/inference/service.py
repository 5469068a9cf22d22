"""What the routes share: settings, engine, releases, and the one way from a source to scores."""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from services.inference.bodies import Source, file_of
from services.inference.engine import Engine
from services.inference.problems import Problem, overloaded
from services.inference.releases import Releases, bundled_release, download_release
from services.inference.scoring import Scored, score
from services.inference.settings import Settings
from shared.ml.model import Model
from shared.scan import MAX_BYTES

_SCAN_OBJECT = re.compile(r"(?:[A-Za-z-]+/)?([0-9a-f]{64}(?:-\d{4,})?)\.(?:png|jpg|jpeg)")

MODEL_NAME = "scanflow"
"""What other systems' protocols call the model."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Service:
    """One process's inference service."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Engine(settings.workers, settings.queue_seconds)
        self.releases = Releases(settings.workers)
        self._watching: asyncio.Task[None] | None = None

    @property
    def model(self) -> Model:
        """The release being served. Raises Problem (503) before there is one."""
        if self.releases.current is None:
            raise overloaded("The service is starting. Try again in a second.")
        return self.releases.current

    def release(self, version: str = "") -> Model:
        """The release of a version: the one served, or the one before it. Raises Problem (404, 503)."""
        loaded = {model.card.version: model for model in (self.releases.previous, self.model) if model}
        if version and version not in loaded:
            raise Problem(404, "no-such-version", "This version of the model is not loaded.")
        return loaded[version] if version else self.model

    async def start(self) -> None:
        """Load and warm the release, then watch for others. Raises ModelMismatch or OSError where there is none."""
        await asyncio.to_thread(self._load)
        if self.settings.models_bucket:
            self._watching = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """End the watch and the threads."""
        if self._watching:
            self._watching.cancel()
        self.engine.close()

    async def predicted(self, content_type: str, body: bytes, explain: bool = False) -> bytes:
        """The answer to a request for one file, as JSON. Raises RejectedScan, or Problem."""
        return json.dumps(one_or_several(await self.answers(file_of(content_type, body), explain))).encode()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.model_poll_seconds)
            await asyncio.to_thread(self._look)

    async def answers(self, source: Source, explain: bool = False) -> list[dict[str, object]]:
        """The answer for every page of a file. Raises RejectedScan, or Problem."""
        return await self.scored(source, lambda scored: [page.answer(explain) for page in scored])

    async def scored(self, source: Source, then: Callable[[list[Scored]], T], model: Model | None = None) -> T:
        """What `then` makes of the scores of every page, in a worker's thread. Raises RejectedScan, or Problem."""
        content, known_id = await self._read(source)
        model = model or self.model
        return await self.engine.run(lambda: then(score(content, model, known_id)))

    async def _read(self, source: Source) -> tuple[bytes, str]:
        """Bytes, and the scan's id where its object's name tells it."""
        if not source.uri:
            return source.content, ""
        bucket, _, name = source.uri.removeprefix("gs://").partition("/")
        if not self.settings.scans_bucket or not source.uri.startswith(f"gs://{self.settings.scans_bucket}/"):
            raise Problem(403, "bucket-not-allowed", "Only scans of this service's own scans bucket are read.")
        match = _SCAN_OBJECT.fullmatch(name)
        if match is None:
            raise Problem(404, "no-such-scan", "No object of the scans bucket has such a name. Check the uri.")
        return await asyncio.to_thread(_scan, bucket, name), match[1]

    def _look(self) -> None:
        from shared.gcp import storage  # noqa: PLC0415 - loaded by `start` where a bucket is named

        try:
            self.releases.follow(self.settings.models_bucket)
        except storage.StorageError as error:
            logger.error("%s; still serving %s", error, self.model.card.version)

    def _load(self) -> None:
        settings = self.settings
        if settings.aip_storage_uri.startswith("gs://"):
            bucket, _, folder = settings.aip_storage_uri.removeprefix("gs://").partition("/")
            self.releases.serve(download_release(bucket, folder.strip("/")))
            return
        if settings.models_bucket:
            self.releases.follow(settings.models_bucket)
        if self.releases.current is None:
            self.releases.serve(bundled_release())


async def in_order[T](work: Sequence[Coroutine[Any, Any, T]], width: int) -> AsyncIterator[T]:
    """Results in the order of the work, `width` pieces at a time. The first that raises ends the others."""
    waiting: deque[asyncio.Task[T]] = deque()
    todo = iter(work)
    try:
        for piece in todo:
            waiting.append(asyncio.create_task(piece))
            if len(waiting) == width:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        for piece in todo:
            piece.close()


def one_or_several(answers: list[dict[str, object]]) -> dict[str, object]:
    """A file's answer: its scan's, or those of all its pages."""
    return answers[0] if len(answers) == 1 else {"scans": answers}


def _scan(bucket: str, name: str) -> bytes:
    from shared.gcp import storage  # noqa: PLC0415 - its second of import is paid only where a uri is sent

    try:
        return storage.read_range(bucket, name, 0, MAX_BYTES + 1)  # one byte more than decode takes
    except storage.MissingObject:
        raise Problem(404, "no-such-scan", "The scans bucket has no such scan. Check the uri.") from None
    except storage.StorageError as error:
        logger.error("%s", error)
        raise Problem(503, "storage-unavailable", "The scans bucket cannot be read. Try again.", 5) from None
