"""Threads that decode and predict, one a core, behind a queue that admits only what can be answered in time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import perf_counter
from typing import TypeVar

import cv2
import numpy as np

from services.inference.metrics import STAGES
from services.inference.problems import overloaded
from shared.imaging.preprocessing import SIDE
from shared.ml.model import Model

_SMOOTHING = 0.05
"""Weight of the latest job in the running mean of what a job takes."""

_ALWAYS_WAITING = 16
"""Pieces of work a thread that may wait whatever the estimate says: where a machine is slow for other reasons, callers
who ask again at once cost more than a longer queue."""

_LATE = 4
"""Times the queue's limit after which work is not begun any more: its estimate was wrong, and its caller is gone."""

T = TypeVar("T")


class Engine:
    """Runs blocking work in `workers` threads. Used from one event loop."""

    def __init__(self, workers: int, queue_seconds: float) -> None:
        """`queue_seconds`: work that would wait longer for a thread is refused."""
        cv2.setNumThreads(1)  # a worker a core is all the parallelism there is room for
        self.workers = workers
        self._queue_seconds = queue_seconds
        self._threads = ThreadPoolExecutor(workers, "worker")
        self._pending = 0
        self._job_seconds = 0.005

    @property
    def busy(self) -> bool:
        """Whether work submitted now would wait too long."""
        waiting = max(self._pending + 1 - self.workers, 0)
        return waiting > _ALWAYS_WAITING * self.workers and (
            waiting * self._job_seconds / self.workers > self._queue_seconds
        )

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Problem (503) where no thread can take it in time."""
        if self.busy:
            raise overloaded()
        self._pending += 1
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._timely, work, perf_counter()
            )
        finally:
            self._pending -= 1
        self._job_seconds += _SMOOTHING * (seconds - self._job_seconds)
        return result

    def close(self) -> None:
        """Finish what is running and end the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _timely(self, work: Callable[[], T], submitted: float) -> tuple[T, float]:
        """Run the work, unless it waited far longer than was estimated."""
        start = perf_counter()
        STAGES["queue"].observe(start - submitted)
        if start - submitted > _LATE * self._queue_seconds:
            raise overloaded()
        return work(), perf_counter() - start


def warm(model: Model, workers: int) -> None:
    """Run the model once in each of `workers` threads at the same time, so that no request waits for an interpreter."""
    together = Barrier(workers)

    def once() -> None:
        together.wait()
        model.predict(np.zeros((SIDE, SIDE, 3), np.float32))

    with ThreadPoolExecutor(workers) as threads:
        for run in [threads.submit(once) for _ in range(workers)]:
            run.result()
