"""The Cloud Tasks stand-in takes tasks from the official client and sends them to real HTTP servers."""

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from local.emulators.tasks import Queue, Tasks, queue, started
from local.stack.processes import free_port
from local.stack.terraform_config import declared
from tests.support.counted import Function, counted
from tests.support.waiting import wait_until

PARENT = "projects/p/locations/l/queues/"


@pytest.fixture
def function() -> Iterator[Function]:
    with counted() as server:
        yield server


@pytest.fixture
def client(function: Function) -> Iterator[tasks_v2.CloudTasksClient]:
    address, port = f"http://127.0.0.1:{function.server_port}", free_port()
    kept = {"url": address, "max_backoff_s": 0.1, "timeout_s": 60}
    queues = [Queue(name="q", max_attempts=3, min_backoff_s=0.01, **kept)]
    server = started(port, Tasks(queues))
    yield tasks_v2.CloudTasksClient(
        transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(f"127.0.0.1:{port}"))
    )
    server.stop(grace=None)


def create(client: tasks_v2.CloudTasksClient, name: str = "", in_s: float = 0, **changes: str) -> tasks_v2.Task:
    parent = PARENT + changes.get("queue", "q")
    task = tasks_v2.Task(
        name=f"{parent}/tasks/{name}" if name else "",
        schedule_time=datetime.now(UTC) + timedelta(seconds=in_s),
        http_request=tasks_v2.HttpRequest(url=changes.get("url", "https://somewhere.invalid/")),
    )
    return client.create_task(parent=parent, task=task)


def test_a_task_is_sent_to_its_queues_address_when_it_is_due(client, function: Function) -> None:
    due = time.time() + 0.5
    create(client, in_s=0.5)
    wait_until(lambda: function.calls == 1)
    assert time.time() >= due


def test_a_name_is_refused_a_second_time_even_after_its_task_was_sent(client, function: Function) -> None:
    create(client, "a")
    wait_until(lambda: function.calls == 1)
    with pytest.raises(AlreadyExists):
        create(client, "a")
    create(client, "b")
    wait_until(lambda: function.calls == 2)


def test_a_task_that_fails_is_sent_again_as_often_as_its_queue_says(client, function: Function) -> None:
    function.statuses.extend([500, 503])
    create(client, "a")
    wait_until(lambda: function.calls == 3)
    function.statuses.extend([500] * 5)
    create(client, "b")
    wait_until(lambda: function.calls == 6)
    create(client, "c")
    wait_until(lambda: not function.statuses)
    assert function.calls == 8


def test_what_the_api_refuses_is_refused(client) -> None:
    with pytest.raises(NotFound):
        create(client, queue="other")
    with pytest.raises(InvalidArgument):
        create(client, url="somewhere")


@pytest.mark.parametrize("name", sorted(declared()["queues"]))
def test_every_queue_of_terraform_is_of_a_scheduled_step(name: str) -> None:
    assert queue(f"{name}=http://127.0.0.1:1").timeout_s == declared()["scheduled"][name]["timeout"]


def test_a_step_without_a_queue_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        queue("verify_ingestion=http://127.0.0.1:1")
