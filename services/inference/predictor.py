"""A file to its predictions: read, decode, prepare, run the network. Knows nothing of HTTP."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import numpy as np

from services.inference.challenger import Answer, Challenger, answering
from services.inference.explanation import explain
from services.inference.metrics import PREDICTIONS, STAGES
from services.inference.served_models import ServedModels
from services.inference.settings import Settings
from services.inference.site_calibrations import OWN, Chosen, SiteCalibrations
from services.inference.worker_pool import Overloaded, WorkerPool
from shared.imaging.decoding import decode_scan
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model, Prediction
from shared.ml.prediction import PredictedClass, PredictionResponse, Role
from shared.scan import MAX_BYTES, file_id, file_id_of, scan_id

_SCAN_OBJECT = re.compile(r"(?:[A-Za-z-]+/)?([0-9a-f]{64}(?:-\d{4,})?)\.(?:png|jpg|jpeg)")

_LOOK_S = 1.0
"""How soon the pointer drops a challenger that was withdrawn here."""

logger = logging.getLogger(__name__)


Run = Callable[[np.ndarray], Answer]
Choice = Callable[[str], Run]
"""What answers the scans of a file, from the file's id."""
Site = Callable[[str], Chosen]
"""The calibration for the file's source, from the version of the release that answers."""


class BucketNotAllowed(Exception):
    """A uri that is not in the scans bucket."""


class NoSuchScan(Exception):
    """A uri of the scans bucket that names no scan."""


class SeveralPages(Exception):
    """A file of several pages, whose caller expects one prediction."""


class ScansUnavailable(Exception):
    """The scans bucket cannot be read now."""


@dataclass(frozen=True, slots=True)
class ScanFile:
    """A file to predict: its bytes, or the `gs://` uri of a scan in the scans bucket."""

    content: bytes = b""
    uri: str = ""
    source: str = ""
    """Where the scan comes from: a commissioned site's own calibration then makes the answer."""
    unit: str = ""
    """The series that it is a slice of, all of which one release answers; the file itself if empty."""

    def within(self, source: str, unit: str = "") -> "ScanFile":
        """Return the file in a request for a source and a unit; a source of its own stands."""
        return replace(self, source=self.source or source, unit=unit)


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """The prediction for one page, and the page as the network saw it."""

    scan_id: str
    page: np.ndarray
    """uint8 (h, w) or (h, w, 3): as decoded."""
    prediction: Prediction
    model: Model
    timings_ms: dict[str, float] = field(default_factory=dict)
    role: Role = "champion"
    challenger_version: str | None = None
    """Release that would answer this page in shadow."""
    chosen: Chosen = OWN
    """The calibration that made the probability."""

    @property
    def predicted_class(self) -> PredictedClass:
        """The predicted class at the release's threshold, or at the site's."""
        return self.model.predicted_class(self.prediction, self.chosen.calibration)

    def response(self, *, with_heat_map: bool = False, with_embedding: bool = False) -> PredictionResponse:
        """Return the answer about this page."""
        calibration = self.chosen.calibration
        reason = self.model.uncertain_reason(self.prediction, calibration)
        return PredictionResponse(
            scan_id=self.scan_id,
            prediction=self.predicted_class,
            probability=self.prediction.probability,
            threshold=(calibration or self.model.card).threshold,
            types=self.prediction.types,
            ood_score=self.prediction.ood_score,
            model_version=self.model.card.version,
            timings_ms=self.timings_ms,
            role=self.role,
            challenger_version=self.challenger_version,
            uncertain=reason is not None,
            uncertain_reason=reason,
            calibration=self.chosen.name,
            calibration_note=self.chosen.note,
            heat_map=explain(self.page, self.prediction.heat_map) if with_heat_map else None,
            embedding=self.prediction.embedding.tolist() if with_embedding else None,
        )


class Predictor:
    """One process's models and worker threads. Used from one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded before `start`."""
        self.models = ServedModels(settings.workers, records=bool(settings.dataset))
        self.sites = SiteCalibrations()
        self.pool = WorkerPool(settings.workers, settings.queue_seconds)
        self._settings = settings
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load and warm the release, then follow the bucket's pointer. Raises what `ServedModels.load_first` raises."""
        await asyncio.to_thread(self.models.load_first, self._settings)
        if self._settings.models_bucket:
            await asyncio.to_thread(self.sites.follow)
            self._following = asyncio.create_task(self._follow())

    def stop(self) -> None:
        """End the watch and the threads."""
        if self._following:
            self._following.cancel()
        self.pool.close()

    async def predict[T](self, file: ScanFile, then: Callable[[PredictionResult], T]) -> list[T]:
        """Return what `then` makes, in a worker's thread, of the result for every page of a file, in order.

        Several pages are shared among the workers. The champion answers, or the challenger if the file's unit is in
        its share. Raises RejectedScan, Overloaded, NotReady, and
        BucketNotAllowed, NoSuchScan or ScansUnavailable for a uri.
        """
        choose = partial(answering, self.models.current, self.models.challenger)
        first, others = await self._predict_first(file, lambda name: choose(file.unit or file_id_of(name)), then)
        return [first, *await self.pool.run_all(others)] if others else [first]

    async def challenge(self, file: ScanFile) -> PredictionResult | None:
        """Return what the challenger says of a file of one page, having compared it with the champion's answer.

        None if there is no challenger, if it fails, or if no worker is idle. Raises what `predict_page` raises.
        """
        challenger, champion = self.models.challenger, self.models.current
        if challenger is None or not self.pool.is_idle:
            return None
        content, known_id = await self._read(file)
        site = partial(self.sites.of, file.source)
        try:
            return await self.pool.run_idle(partial(_challenge, content, known_id, champion, challenger, site))
        except Overloaded:
            return None

    async def predict_page(self, file: ScanFile, model: Model) -> PredictionResult:
        """Return the result for a file of one page. Raises SeveralPages, and what `predict` raises."""
        result, others = await self._predict_first(file, lambda _: answering(model, None, ""), lambda result: result)
        if others:
            raise SeveralPages
        return result

    async def predict_tensor(self, tensor: np.ndarray, model: Model, source: str = "") -> PredictionResult:
        """Return the result for a scan that the caller has prepared: float32 (128, 128, 3) in [0, 1]."""
        return await self.pool.run(partial(_predict_tensor, tensor, model, partial(self.sites.of, source)))

    async def _predict_first[T](
        self, file: ScanFile, choose: Choice, then: Callable[[PredictionResult], T]
    ) -> tuple[T, list[Callable[[], T]]]:
        content, known_id = await self._read(file)
        site = partial(self.sites.of, file.source)
        return await self.pool.run(partial(_predict_first, content, known_id, choose, site, then))

    async def _follow(self) -> None:
        following = self._settings.model_poll_seconds
        due = perf_counter() + following
        while True:
            await asyncio.sleep(min(_LOOK_S, following))
            if self.models.withdrawn or perf_counter() >= due:
                await asyncio.to_thread(self.models.refresh)
                await asyncio.to_thread(self.sites.refresh)
                due = perf_counter() + following

    async def _read(self, file: ScanFile) -> tuple[bytes, str]:
        """Return the file's bytes, and the scan's id if its object's name tells it."""
        if not file.uri:
            return file.content, ""
        bucket, _, name = file.uri.removeprefix("gs://").partition("/")
        if not self._settings.scans_bucket or not file.uri.startswith(f"gs://{self._settings.scans_bucket}/"):
            raise BucketNotAllowed
        match = _SCAN_OBJECT.fullmatch(name)
        if match is None:
            raise NoSuchScan
        return await asyncio.to_thread(_read_scan, bucket, name), match[1]


def _read_scan(bucket: str, name: str) -> bytes:
    from shared.gcp import storage  # noqa: PLC0415 - its second of import is paid only if a uri is sent

    try:
        return storage.read_range(bucket, name, 0, MAX_BYTES + 1)  # one byte more than decode takes
    except storage.MissingObject:
        raise NoSuchScan from None
    except storage.StorageError as error:
        logger.error("%s", error)
        raise ScansUnavailable from None


def _predict_first[T](
    content: bytes, known_id: str, choose: Choice, site: Site, then: Callable[[PredictionResult], T]
) -> tuple[T, list[Callable[[], T]]]:
    """Decode a file and predict its first page; return that, and the jobs that predict its other pages.

    `known_id` is the scan's id if the bytes are an object of that scan. Raises RejectedScan.
    """
    start = perf_counter()
    pages = decode_scan(content).pages
    seconds = _observed("decode", start) / len(pages)
    whole = known_id or file_id(content)
    run = choose(whole)

    def predict(page: int) -> T:
        return then(_predict_page(scan_id(whole, page, len(pages)), pages[page], run, site, seconds))

    return predict(0), [partial(predict, page) for page in range(1, len(pages))]


def _challenge(
    content: bytes, known_id: str, champion: Model, challenger: Challenger, site: Site
) -> PredictionResult | None:
    pages = decode_scan(content).pages
    if len(pages) > 1:
        raise SeveralPages
    answer = challenger.in_shadow(champion, prepare(pages[0]))
    return _result(known_id or file_id(content), pages[0], answer, site, {}) if answer else None


def _predict_page(name: str, page: np.ndarray, run: Run, site: Site, decode_seconds: float) -> PredictionResult:
    start = perf_counter()
    tensor = prepare(page)
    prepare_seconds = _observed("prepare", start)
    start = perf_counter()
    answer = run(tensor)
    seconds = {"decode": decode_seconds, "prepare": prepare_seconds, "network": _observed("network", start)}
    timings = {stage: _milliseconds(each) for stage, each in seconds.items()}
    return _counted(_result(name, page, answer, site, timings))


def _result(name: str, page: np.ndarray, answer: Answer, site: Site, timings_ms: dict[str, float]) -> PredictionResult:
    """Return the result of a page, its probability calibrated for the site if the answering release has that."""
    chosen, prediction = site(answer.model.card.version), answer.prediction
    if chosen.calibration:
        prediction = replace(prediction, probability=chosen.calibration.probability(prediction.probability))
    return PredictionResult(
        name, page, prediction, answer.model, timings_ms, answer.role, answer.challenger_version, chosen
    )


def _predict_tensor(tensor: np.ndarray, model: Model, site: Site) -> PredictionResult:
    start = perf_counter()
    answer = Answer(model.predict(tensor), model)
    timings = {"network": _milliseconds(_observed("network", start))}
    page = np.rint(tensor * 255).astype(np.uint8)
    return _counted(_result(file_id(tensor.tobytes()), page, answer, site, timings))


def _counted(result: PredictionResult) -> PredictionResult:
    PREDICTIONS[result.predicted_class].inc()
    return result


def _observed(stage: str, start: float) -> float:
    """Return the seconds since the start, having put them into the stage's histogram."""
    seconds = perf_counter() - start
    STAGES[stage].observe(seconds)
    return seconds


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
