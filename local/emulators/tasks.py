"""A stand-in for Cloud Tasks on one machine: requests that are sent when they are due, and again if they fail.

    python -m local.emulators.tasks --port 8088 summarise_series=http://127.0.0.1:9000

It answers CreateTask as `google-cloud-tasks` asks it. Terraform declares the queues and how often they try; as in the
cloud, a queue's own address takes the place of the one that a task names. Tasks end with the process: the scheduler's
tick makes up for them, as it does in the cloud for a task that could not be made.
"""

import argparse
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from google.cloud import tasks_v2

from local.emulators.scheduler import post
from local.stack.terraform_config import declared, seconds
from shared import config

_SERVICE = "google.cloud.tasks.v2.CloudTasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Where a queue's tasks go, and how often each is tried."""

    name: str
    url: str
    max_attempts: int
    min_backoff_s: float
    max_backoff_s: float
    timeout_s: float


class Tasks:
    """Tasks that wait, and the names of all that there were."""

    def __init__(self, queues: list[Queue]) -> None:
        """Take tasks for these queues."""
        self._queues = {queue.name: queue for queue in queues}
        self.names: set[str] = set()
        self._changing = threading.Lock()

    def create(self, request: tasks_v2.CreateTaskRequest, context: grpc.ServicerContext) -> tasks_v2.Task:
        """Take a task under a name that was never used, or without one."""
        task = request.task
        queue = self._queues.get(request.parent.rpartition("/")[2])
        if queue is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such queue")
            raise AssertionError("unreachable")
        if not task.http_request.url.startswith(("http://", "https://")):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a task names an address")
        with self._changing:
            task.name = task.name or f"{request.parent}/tasks/{len(self.names)}"
            if task.name in self.names:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "the name is taken")
            self.names.add(task.name)
        due = tasks_v2.Task.pb(task).schedule_time.ToMicroseconds() / 1e6  # long ago if the task names no time
        _later(due - time.time(), queue, task.name, 1)
        return task


def _later(wait_s: float, queue: Queue, name: str, attempt: int) -> None:
    timer = threading.Timer(max(0.0, wait_s), _send, (queue, name, attempt))
    timer.daemon = True
    timer.start()


def _send(queue: Queue, name: str, attempt: int) -> None:
    """Send a task; if it fails, send it again after a pause that doubles, as long as the queue tries."""
    status = post(queue.url, queue.timeout_s, {"X-CloudTasks-TaskName": name.rpartition("/")[2]})
    if (status is None or status >= 300) and attempt < queue.max_attempts:
        backoff = min(queue.min_backoff_s * 2 ** (attempt - 1), queue.max_backoff_s)
        _later(backoff, queue, name, attempt + 1)


def queue(text: str) -> Queue:
    """Return the queue that `step=address` stands for. Raises ArgumentTypeError if Terraform declares no such queue."""
    step, _, url = text.partition("=")
    if step not in declared()["queues"]:
        raise argparse.ArgumentTypeError(f"Terraform declares no queue for {step}")
    settings = declared()["queues"][step]
    return Queue(
        name=config.name_prefix() + step.replace("_", "-"),
        url=url,
        max_attempts=settings["max_attempts"],
        min_backoff_s=seconds(settings["min_backoff"]),
        max_backoff_s=seconds(settings["max_backoff"]),
        timeout_s=declared()["scheduled"][step]["timeout"],
    )


def started(port: int, tasks: Tasks) -> grpc.Server:
    """Return the running server, which the caller stops."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    create = grpc.unary_unary_rpc_method_handler(
        tasks.create, tasks_v2.CreateTaskRequest.deserialize, tasks_v2.Task.serialize
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"CreateTask": create})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def main() -> None:
    """Serve as the arguments say, until SIGTERM."""
    parser = argparse.ArgumentParser("python -m local.emulators.tasks", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("queues", nargs="*", type=queue, help="scheduled step and its address: name=http://...")
    arguments = parser.parse_args()
    server = started(arguments.port, Tasks(arguments.queues))
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: server.stop(grace=0.5))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
