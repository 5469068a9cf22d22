"""The supervisor starts, restarts and ends real processes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.stack.processes import Service, StackError, Supervisor, free_port
from tests.support.waiting import wait_until

SERVER = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def server(name: str) -> Service:
    port = free_port()
    return Service(name=name, port=port, command=[sys.executable, "-c", SERVER, str(port)], environment={}, health="/")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.stop()


def test_services_are_ready_when_start_returns(supervisor: Supervisor) -> None:
    services = [server("one"), server("two")]
    supervisor.start(services)
    assert all(service.is_ready() for service in services)


def test_killed_process_starts_again_on_its_port(supervisor: Supervisor) -> None:
    service = server("doomed")
    supervisor.start([service])
    first = supervisor.processes()["doomed"].pid
    psutil.Process(first).kill()
    wait_until(lambda: supervisor.restarts["doomed"] == 1 and service.is_ready())
    assert supervisor.processes()["doomed"].pid != first


def test_stop_ends_every_process_and_starts_none_again(supervisor: Supervisor) -> None:
    services = [server("one"), server("two")]
    supervisor.start(services)
    processes = list(supervisor.processes().values())
    supervisor.stop()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert not any(service.is_ready() for service in services)
    assert not supervisor.restarts


def test_process_that_does_not_come_up_is_named_with_its_log(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.processes._READY_WITHIN_S", 1)
    broken = Service(
        name="broken", port=free_port(), command=[sys.executable, "-c", "raise SystemExit"], environment={}
    )
    with pytest.raises(StackError, match=r"broken did not start; see .*broken\.log"):
        supervisor.start([broken])


def test_what_a_killed_supervisor_left_behind_is_ended(tmp_path: Path) -> None:
    killed, service = Supervisor(tmp_path), server("orphan")
    killed.start([service])
    orphan = killed.processes()["orphan"]
    killed._stopping.set()  # from here on it does nothing more, as if it had been killed
    Supervisor(tmp_path)
    wait_until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "pids.json").exists()
