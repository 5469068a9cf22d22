"""A stand-in for Cloud Scheduler on one machine: calls the scheduled functions as Terraform's own schedules say.

    python -m local.emulators.scheduler --port 8087 --speed 20 verify_ingestion=http://127.0.0.1:9000

Its clock runs `--speed` times as fast as the machine's, so that what happens every hour happens every three minutes. As
in the cloud, a function that still runs is not called a second time, and a call that fails is made three times more.
A GET answers the jobs with their last results, as JSON.
"""

import argparse
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cronsim import CronSim

from local.stack.terraform_config import declared

_RETRIES = 3  # as retry_config in terraform/scheduler.tf
_RETRY_AFTER = timedelta(seconds=30)


class Clock:
    """A time that begins now and runs `speed` times as fast."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began, self._monotonic = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        """Return the time that this clock shows."""
        return self._began + timedelta(seconds=self._speed * (time.monotonic() - self._monotonic))

    def sleep_until(self, then: datetime) -> None:
        """Return when the clock shows `then`."""
        time.sleep(max(0.0, (then - self.now()).total_seconds() / self._speed))


@dataclass(slots=True)
class Job:
    """A scheduled function and how its last call ended."""

    name: str
    url: str
    schedule: str
    timeout_s: float
    calls: int = 0
    last_status: int | None = None
    """HTTP status of the last answer; None before the first, and if the function did not answer."""

    def run(self, clock: Clock) -> None:
        """Call the function whenever its schedule says, for ever."""
        due = CronSim(self.schedule, clock.now())
        while True:
            then = next(due)
            if then < clock.now() - timedelta(minutes=1):
                continue  # it fell due while the last call still ran
            clock.sleep_until(then)
            self._call(clock)

    def _call(self, clock: Clock) -> None:
        for _ in range(1 + _RETRIES):
            self.calls += 1
            self.last_status = post(self.url, self.timeout_s)
            if self.last_status is not None and self.last_status < 300:
                return
            clock.sleep_until(clock.now() + _RETRY_AFTER)


def post(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> int | None:
    """Return the HTTP status that a function answers; None if it does not answer."""
    try:
        sent = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(url, b"{}", sent)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - loopback only
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def serve(port: int, jobs: list[Job], clock: Clock) -> None:
    """Run the jobs and answer their state until SIGTERM."""

    class State(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps([asdict(job) for job in jobs]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: the supervisor asks often."""

    server = ThreadingHTTPServer(("127.0.0.1", port), State)
    for job in jobs:
        threading.Thread(target=job.run, args=(clock,), daemon=True).start()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


def scheduled_job(text: str) -> Job:
    """Return the job that `name=address` stands for. Raises ArgumentTypeError if Terraform schedules no such step."""
    name, _, url = text.partition("=")
    if name not in declared()["scheduled"]:
        raise argparse.ArgumentTypeError(f"Terraform schedules no step {name}")
    settings = declared()["scheduled"][name]
    return Job(name, url, settings["schedule"], settings["timeout"])


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser("python -m local.emulators.scheduler", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="port that answers the jobs' state")
    parser.add_argument("--speed", type=float, default=1, help="how much faster than the clock (default: %(default)s)")
    parser.add_argument("jobs", nargs="*", type=scheduled_job, help="scheduled step and its address: name=http://...")
    arguments = parser.parse_args()
    serve(arguments.port, arguments.jobs, Clock(arguments.speed))


if __name__ == "__main__":
    main()
