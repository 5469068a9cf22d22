"""One call at a time, whoever asks for it; the official client against the stand-in."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.emulators.tasks import Queue, Tasks, started
from local.stack.processes import free_port
from shared.gcp import tasks
from tests.support.counted import Function, counted
from tests.support.waiting import wait_until


@pytest.fixture
def function() -> Iterator[Function]:
    with counted() as server:
        yield server


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that the client looks for a stand-in at."""
    port = free_port()
    monkeypatch.setenv("TASKS_EMULATOR_HOST", f"127.0.0.1:{port}")
    for name, value in {"GOOGLE_CLOUD_PROJECT": "p", "REGION": "r"}.items():
        monkeypatch.setenv(name, value)
    tasks.client.cache_clear()
    yield port
    tasks.client.cache_clear()


def standing_in(function: Function) -> Tasks:
    address = f"http://127.0.0.1:{function.server_port}"
    return Tasks([Queue(name="q", url=address, max_attempts=1, min_backoff_s=1, max_backoff_s=1, timeout_s=60)])


def asked(at: int) -> bool:
    try:
        tasks.call_once("q", at)
    except tasks.TasksError:
        return False
    return True


def test_ten_processes_that_ask_for_a_time_make_one_call(port: int, function: Function) -> None:
    kept, at = standing_in(function), int(time.time())
    server = started(port, kept)

    def ask(_: int) -> None:
        tasks.client.cache_clear()  # as another process
        tasks.call_once("q", at)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(ask, range(10)))
    wait_until(lambda: function.calls)
    assert kept.names == {f"projects/p/locations/r/queues/q/tasks/at-{at}"}
    tasks.call_once("q", at + 1)
    wait_until(lambda: function.calls == 2)
    server.stop(grace=None)


def test_a_task_that_could_not_be_made_is_asked_for_again(port: int, function: Function) -> None:
    at = int(time.time())
    with pytest.raises(tasks.TasksError):
        tasks.call_once("q", at)
    server = started(port, standing_in(function))
    wait_until(lambda: asked(at))  # gRPC tries a port that refused it again after a second
    wait_until(lambda: function.calls == 1)
    server.stop(grace=None)
