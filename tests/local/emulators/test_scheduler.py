"""The Cloud Scheduler stand-in calls real HTTP servers as Terraform's schedules say."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from cronsim import CronSim

from local.emulators.scheduler import Job
from local.stack.terraform_config import declared
from tests.support.counted import Function, counted
from tests.support.servers import python, running
from tests.support.waiting import wait_until


@pytest.fixture
def function() -> Iterator[Function]:
    with counted() as server:
        yield server


def state(url: str) -> Job:
    (job,) = requests.get(url, timeout=60).json()
    return Job(**job)


def scheduler(function: Function, log: Path, speed: float):
    address = f"verify_ingestion=http://127.0.0.1:{function.server_port}"
    command = python("-m", "local.emulators.scheduler", "--port", "PORT", "--speed", str(speed), address)
    return running(command, log, "/")


def test_a_function_is_called_as_often_as_its_schedule_says(function: Function, tmp_path: Path) -> None:
    """A day in half a second: the nightly function is called again and again, and a report says so."""
    with scheduler(function, tmp_path / "log", speed=2 * 86_400) as server:
        wait_until(lambda: function.calls >= 3)
        assert state(server.url).last_status == 200


def test_a_function_that_fails_is_called_again_and_its_status_shown(function: Function, tmp_path: Path) -> None:
    function.statuses.extend([500] * 4)
    with scheduler(function, tmp_path / "log", speed=86_400) as server:
        wait_until(lambda: function.calls >= 4)
        wait_until(lambda: state(server.url).last_status is not None)
        assert state(server.url).calls >= 4


def test_a_function_that_still_runs_is_not_called_a_second_time(function: Function, tmp_path: Path) -> None:
    function.released.clear()
    with scheduler(function, tmp_path / "log", speed=10 * 86_400) as server:
        wait_until(lambda: function.together == 1)
        began = datetime.now(UTC)
        wait_until(lambda: (datetime.now(UTC) - began).total_seconds() > 0.5)  # five days of its clock
        assert (function.calls, function.together) == (1, 1)
        function.released.set()
        wait_until(lambda: state(server.url).last_status == 200)


@pytest.mark.parametrize("name", sorted(declared()["scheduled"]))
def test_every_schedule_of_terraform_can_be_read(name: str) -> None:
    assert next(CronSim(declared()["scheduled"][name]["schedule"], datetime.now(UTC))) > datetime.now(UTC)
