"""Cloud Tasks: a function called at a moment, once however many ask for it."""

import os
from datetime import UTC, datetime
from functools import cache, lru_cache

import grpc
from google.api_core.exceptions import AlreadyExists, GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from shared import config

_WITHIN_S = 5
"""The caller's message waits meanwhile, and its row is stored already."""
_REPLACED = "https://queue.invalid/"
"""A task has to name an address. The queue's own takes its place, and the account that calls it (terraform/tasks.tf):
who may add a task can say neither."""


class TasksError(Exception):
    """Cloud Tasks could not be reached or did not accept the task."""


@cache
def client() -> tasks_v2.CloudTasksClient:
    """The process's one client, made at first use; TASKS_EMULATOR_HOST (host:port) points it at a stand-in."""
    if emulator := os.environ.get("TASKS_EMULATOR_HOST"):
        transport = CloudTasksGrpcTransport(channel=grpc.insecure_channel(emulator))
        return tasks_v2.CloudTasksClient(transport=transport)
    return tasks_v2.CloudTasksClient()


def call_once(queue: str, at: int) -> None:
    """Have a queue call its function at a time, in seconds since 1970: one call, whoever asks and however often.

    Raises TasksError.
    """
    try:
        _create(client(), client().queue_path(config.project(), config.region(), config.name_prefix() + queue), at)
    except (GoogleAPIError, GoogleAuthError) as error:
        raise TasksError(f"Cloud Tasks did not answer: {type(error).__name__}") from error


@lru_cache(maxsize=64)  # a task that was made is not asked for again; an error is kept by nobody
def _create(cloud: tasks_v2.CloudTasksClient, queue: str, at: int) -> None:
    """Make the task that is named after its time. Its name is taken for hours after it ran, and the time is gone."""
    request = tasks_v2.HttpRequest(url=_REPLACED, http_method=tasks_v2.HttpMethod.POST)
    task = tasks_v2.Task(
        name=f"{queue}/tasks/at-{at}", schedule_time=datetime.fromtimestamp(at, UTC), http_request=request
    )
    try:
        cloud.create_task(parent=queue, task=task, timeout=_WITHIN_S, retry=None)
    except AlreadyExists:
        return
