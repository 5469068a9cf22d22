import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from services.inference.worker_pool import Overloaded, WorkerPool


async def ended(pool: WorkerPool, work: Callable) -> object:
    """Return what the work returned, or "overloaded"."""
    try:
        return await pool.run(work)
    except Overloaded:
        return "overloaded"


def test_results_and_exceptions_come_back():
    async def scenario() -> None:
        pool = WorkerPool(workers=2, queue_seconds=10)
        assert await pool.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 / 0)
        pool.close()

    asyncio.run(scenario())


def test_work_runs_in_as_many_threads_as_there_are_workers():
    async def scenario() -> None:
        pool = WorkerPool(workers=2, queue_seconds=10)
        together = threading.Barrier(2)
        await asyncio.gather(pool.run(together.wait), pool.run(together.wait))  # either alone would wait for ever
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_work_that_would_wait_too_long_is_refused_at_once_and_what_was_admitted_is_done():
    async def scenario() -> None:
        pool = WorkerPool(workers=1, queue_seconds=0.5)
        held = threading.Event()
        first = asyncio.create_task(pool.run(held.wait))
        others = [asyncio.create_task(ended(pool, lambda: "done")) for _ in range(1000)]
        while not any(task.done() for task in others):
            await asyncio.sleep(0)
        refused = [task for task in others if task.done()]
        assert pool.is_busy
        assert {task.result() for task in refused} == {"overloaded"}
        assert 0 < len(refused) < len(others)
        held.set()
        assert await first
        assert set(await asyncio.gather(*others)) <= {"done", "overloaded"}
        assert not pool.is_busy
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_work_whose_time_is_over_when_its_turn_comes_is_not_begun():
    async def scenario() -> None:
        pool = WorkerPool(workers=1, queue_seconds=0.05)
        held, begun = threading.Event(), threading.Event()
        first = asyncio.create_task(pool.run(held.wait))
        second = asyncio.create_task(ended(pool, begun.set))
        await asyncio.sleep(0.3)  # longer than four times the limit
        held.set()
        await first
        assert await second == "overloaded"
        assert not begun.is_set()
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_jobs_of_an_admitted_file_are_not_refused_and_come_in_order():
    async def scenario() -> None:
        pool = WorkerPool(workers=2, queue_seconds=0)
        assert await pool.run_all([partial(int, number) for number in range(500)]) == list(range(500))
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_jobs_of_an_admitted_file_share_the_workers():
    async def scenario() -> None:
        pool = WorkerPool(workers=2, queue_seconds=10)
        together = threading.Barrier(2)
        await pool.run_all([together.wait, together.wait])  # either alone would wait for ever
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_the_first_job_that_raises_ends_the_others():
    async def scenario() -> None:
        pool = WorkerPool(workers=1, queue_seconds=10)
        done = []
        with pytest.raises(ZeroDivisionError):
            await pool.run_all([lambda: 1 / 0, *[partial(done.append, number) for number in range(100)]])
        assert len(done) <= 2  # what was in the queue by then
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))
