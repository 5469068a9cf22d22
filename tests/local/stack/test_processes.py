"""The supervisor starts, restarts and ends real processes."""

import itertools
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.stack.processes import Health, Service, StackError, Supervisor, free_port
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


def test_process_that_has_ended_is_not_among_those_that_run(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.processes._READY_WITHIN_S", 1)
    with pytest.raises(StackError):
        supervisor.start([Service(name="ended", port=free_port(), command=["/bin/false"], environment={})])
    wait_until(lambda: not supervisor.processes())


def test_a_free_port_is_none_that_an_outgoing_connection_may_take() -> None:
    lowest, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert max(ports) < lowest


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.stack.processes._counter", itertools.count())
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        monkeypatch.setattr("local.stack.processes._counter", itertools.count())
        assert free_port() != taken


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


FAILING = """
import http.server, pathlib, sys
broken = pathlib.Path(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if broken.exists() or asked != b'"how are you?"' else 200)
        self.end_headers()
    def log_message(self, *_): pass
if broken.exists():
    broken.unlink()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_process_that_lives_and_answers_nothing_but_errors_is_restarted(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.processes._CHECK_EVERY_S", 0.1)
    port, broken = free_port(), tmp_path / "broken"
    command = [sys.executable, "-c", FAILING, str(port), str(broken)]
    service = Service(name="sick", port=port, command=command, environment={}, health="/ask", query=b'"how are you?"')
    supervisor.start([service])
    wait_until(service.is_ready)
    broken.touch()
    wait_until(lambda: supervisor.restarts["sick"] == 1 and service.is_ready())


def test_a_frozen_process_is_left_alone(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.stack.processes._CHECK_EVERY_S", 0.05)
    service = server("frozen")
    supervisor.start([service])
    process = supervisor.processes()["frozen"]
    process.suspend()
    assert service.check() is Health.SILENT
    process.resume()
    wait_until(service.is_ready)
    assert supervisor.processes()["frozen"].pid == process.pid
    assert not supervisor.restarts


def test_children_of_a_killed_process_die_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    parent = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]]).wait()"
    port = free_port()
    command = [sys.executable, "-c", parent, str(port), SERVER]
    service = Service(name="parent", port=port, command=command, environment={}, health="/")
    supervisor.start([service])
    (child,) = supervisor.processes()["parent"].children()
    supervisor.processes()["parent"].kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: supervisor.restarts["parent"] == 1 and service.is_ready())
