"""Threads that decode and predict, one per core, behind a queue that admits only what can be answered in time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import cv2

from services.inference.metrics import STAGES

_SMOOTHING = 0.05
"""Weight of the latest job in the running mean of what a job takes."""

_ALWAYS_WAITING = 16
"""Jobs per thread that may wait whatever the estimate says: if a machine is slow for other reasons, callers who ask
again at once cost more than a longer queue."""

_LATE = 4
"""Times the queue's limit after which a job is not started any more: its estimate was wrong, and its caller is gone."""


class Overloaded(Exception):
    """No thread can take the job in time. Try again in a second."""


class WorkerPool:
    """Runs blocking jobs in `workers` threads. Used from one event loop."""

    def __init__(self, workers: int, queue_seconds: float) -> None:
        """`queue_seconds`: a job that would wait longer for a thread is refused."""
        cv2.setNumThreads(1)  # a worker per core is all the parallelism there is room for
        self.workers = workers
        self._queue_seconds = queue_seconds
        self._threads = ThreadPoolExecutor(workers, "worker")
        self._idle_thread = ThreadPoolExecutor(1, "idle")
        self._idle_thread_works = False
        self._pending = 0
        self._job_seconds = 0.005

    @property
    def is_busy(self) -> bool:
        """Whether a job submitted now would wait too long."""
        waiting = max(self._pending + 1 - self.workers, 0)
        return waiting > _ALWAYS_WAITING * self.workers and (
            waiting * self._job_seconds / self.workers > self._queue_seconds
        )

    @property
    def is_idle(self) -> bool:
        """Whether a worker has nothing to do, and no idle job runs."""
        return self._pending < self.workers and not self._idle_thread_works

    async def run_idle[T](self, job: Callable[[], T]) -> T:
        """Return what the job returns, or raise what it raises; one at a time, in a thread that no other job waits for.

        Raises Overloaded unless a worker has nothing to do now.
        """
        if not self.is_idle:
            raise Overloaded
        self._idle_thread_works = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._idle_thread, job)
        finally:
            self._idle_thread_works = False

    async def run[T](self, job: Callable[[], T]) -> T:
        """Return what the job returns, or raise what it raises. Raises Overloaded if no thread can take it in time."""
        if self.is_busy:
            raise Overloaded
        return await self._submit(job, _LATE * self._queue_seconds)

    async def run_all[T](self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Return the results of jobs that belong to one that ran before: none of them is refused."""
        submitted = [self._submit(job, float("inf")) for job in jobs]
        return [result async for result in in_order(submitted, self.workers + 1)]

    def close(self) -> None:
        """Finish what is running and end the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._idle_thread.shutdown(cancel_futures=True)

    async def _submit[T](self, job: Callable[[], T], patience: float) -> T:
        self._pending += 1
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(
                self._threads, _run_in_time, job, perf_counter(), patience
            )
        finally:
            self._pending -= 1
        self._job_seconds += _SMOOTHING * (seconds - self._job_seconds)
        return result


def _run_in_time[T](job: Callable[[], T], submitted: float, patience: float) -> tuple[T, float]:
    """Return a job's result and the seconds it took. Raises Overloaded if it waited longer than `patience` seconds."""
    start = perf_counter()
    STAGES["queue"].observe(start - submitted)
    if start - submitted > patience:
        raise Overloaded
    return job(), perf_counter() - start


async def in_order[T](work: Sequence[Coroutine[Any, Any, T]], width: int) -> AsyncIterator[T]:
    """Yield results in the order of the work, `width` pieces at a time. The first that raises cancels the others."""
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
