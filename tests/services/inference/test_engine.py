import asyncio
import threading
from collections.abc import Callable

import pytest

from services.inference.engine import Engine, warm
from services.inference.problems import Problem
from services.inference.releases import bundled_release


async def ended(engine: Engine, work: Callable) -> object:
    """What the work returned, or the problem in its place."""
    try:
        return await engine.run(work)
    except Problem as problem:
        return problem.slug


def test_results_and_exceptions_come_back():
    async def scenario() -> None:
        engine = Engine(workers=2, queue_seconds=10)
        assert await engine.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await engine.run(lambda: 1 / 0)
        engine.close()

    asyncio.run(scenario())


def test_work_runs_in_as_many_threads_as_there_are_workers():
    async def scenario() -> None:
        engine = Engine(workers=2, queue_seconds=10)
        together = threading.Barrier(2)
        await asyncio.gather(engine.run(together.wait), engine.run(together.wait))  # either alone would wait for ever
        engine.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_work_that_would_wait_too_long_is_refused_at_once_and_what_was_admitted_is_done():
    async def scenario() -> None:
        engine = Engine(workers=1, queue_seconds=0.5)
        gate = threading.Event()
        first = asyncio.create_task(engine.run(gate.wait))
        others = [asyncio.create_task(ended(engine, lambda: "done")) for _ in range(1000)]
        while not any(task.done() for task in others):
            await asyncio.sleep(0)
        refused = [task for task in others if task.done()]
        assert engine.busy
        assert {task.result() for task in refused} == {"overloaded"}
        assert 0 < len(refused) < len(others)
        gate.set()
        assert await first
        assert set(await asyncio.gather(*others)) <= {"done", "overloaded"}
        assert not engine.busy
        engine.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_work_whose_time_is_over_when_its_turn_comes_is_not_begun():
    async def scenario() -> None:
        engine = Engine(workers=1, queue_seconds=0.05)
        gate, begun = threading.Event(), threading.Event()
        first = asyncio.create_task(engine.run(gate.wait))
        second = asyncio.create_task(ended(engine, begun.set))
        await asyncio.sleep(0.3)  # longer than four times the limit
        gate.set()
        await first
        assert await second == "overloaded"
        assert not begun.is_set()
        engine.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_warm_model_has_an_interpreter_for_a_worker():
    model = bundled_release()
    warm(model, 2)
    assert len(model._idle) >= 1
