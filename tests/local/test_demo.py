"""`make demo` and `make hospital` as a person runs them: in a terminal of their own, ended at any moment."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local import demo
from local.hospital import tools
from local.samples import encode, healthy_slices, multi_page_tiff
from shared.gcp import bigquery
from tests.support.servers import ROOT, answers
from tests.support.waiting import wait_until

BEGIN = "Starting Scanflow"
UPLOADING = "uploaded"
ADDRESSES = "REST API"
CTRL_C = "Ctrl-C"
IDLE = "Ctrl-C stops everything"


class Demo:
    """`python -m local`, or another module, in a terminal."""

    def __init__(self, directory: Path, *arguments: str, module: str = "local", columns: int = 200) -> None:
        self.directory = directory
        ours, theirs = pty.openpty()
        command = ["setsid", "--ctty", sys.executable, "-m", module, "--directory", str(directory), *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._terminal, self._shown = ours, bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while text := os.read(self._terminal, 4096):
                self._shown += text
        except OSError:  # how a terminal says that its last process is gone
            return

    @property
    def shown(self) -> str:
        """What the terminal showed so far, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._shown.decode(errors="replace")).replace("\r", "")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.shown or self.process.poll() is not None)
        assert text in self.shown, self.shown

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def left(self) -> list[psutil.Process]:
        """Processes that run on this system's folder."""
        return [each for each in psutil.process_iter(["cmdline"]) if is_of(each, self.directory)]

    def services(self) -> dict[str, psutil.Process]:
        pids = json.loads((self.directory / "pids.json").read_text())
        return {name: psutil.Process(pid) for name, (pid, _) in pids.items()}


def is_of(process: psutil.Process, directory: Path) -> bool:
    """Whether a living process works on the folder: by its arguments, or by its log, which lies there."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        log = str(Path(f"/proc/{process.pid}/fd/1").readlink())
        return str(directory) in log or str(directory) in " ".join(process.cmdline())
    except (OSError, psutil.NoSuchProcess):
        return False


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "system"
    yield folder
    subprocess.run([sys.executable, "-m", "local.clean", "--directory", folder], cwd=ROOT, check=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of a hundred scans, which take a while to upload."""
    folder = tmp_path / "glioma"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number}.png").write_bytes(encode(healthy_slices()[number % 25] + number // 25, "PNG"))
    return folder


def end(started: Demo, how: str | int) -> None:
    """By a signal, or by the keys of an impatient person; nothing is left."""
    if isinstance(how, int):
        started.process.send_signal(how)
    else:
        started.press_ctrl_c()
        started.press_ctrl_c()
    assert started.process.wait(120) == 0, started.shown
    assert "Stopped." in started.shown
    assert "Traceback" not in started.shown
    assert started.left() == []


@pytest.mark.drill
@pytest.mark.parametrize(
    ("moment", "how"),
    [
        (BEGIN, CTRL_C),
        (ADDRESSES, signal.SIGTERM),
        (UPLOADING, CTRL_C),
        (UPLOADING, signal.SIGTERM),
        (IDLE, signal.SIGHUP),
    ],
    ids=str,
)
def test_whenever_it_is_ended_no_process_is_left(directory: Path, many: Path, moment: str, how: str | int) -> None:
    started = Demo(directory, *([] if moment == IDLE else ["--data", str(many)]))
    started.wait_for(moment)
    end(started, how)
    assert not (directory / "endpoints.json").exists()


@pytest.mark.drill
@pytest.mark.skipif(bool(tools.missing()), reason="the hospital's side is not here: `python -m local.hospital.tools`")
@pytest.mark.parametrize(
    ("moment", "how"),
    [("Starting a hospital's", CTRL_C), ("slices are in the PACS", signal.SIGTERM), (IDLE, CTRL_C)],
    ids=str,
)
def test_whenever_the_hospital_is_ended_no_process_is_left(directory: Path, moment: str, how: str | int) -> None:
    started = Demo(directory, module="local.hospital")
    started.wait_for(moment)
    end(started, how)


@pytest.mark.drill
@pytest.mark.skipif(bool(tools.missing()), reason="the hospital's side is not here: `python -m local.hospital.tools`")
def test_the_hospital_says_whole_addresses_however_narrow_the_terminal(directory: Path) -> None:
    started = Demo(directory, "--once", module="local.hospital", columns=80)
    assert started.process.wait(300) == 0, started.shown
    assert re.search(r"OHIF +http://\S+/viewer\?StudyInstanceUIDs=2\.25\.\d+$", started.shown, re.MULTILINE)
    assert "…" not in started.shown


@pytest.mark.drill
def test_a_second_demo_on_kept_state_ends_as_well_as_the_first(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "from my scanner.png").write_bytes(encode(healthy_slices()[3], "PNG"))
    (folder / "a stack.tif").write_bytes(multi_page_tiff(healthy_slices()[4:7]))
    for _ in range(2):
        started = Demo(directory, "--data", str(folder), "--once")
        assert started.process.wait(300) == 0, started.shown
        assert "2 of 2 files ended where they should." in started.shown
        assert started.shown.index(ADDRESSES) < started.shown.index(UPLOADING)
        assert "from my scanner.png" in started.shown
        assert "a stack.tif" in started.shown
    for log in (directory / "logs").iterdir():
        assert "my scanner" not in log.read_text(), log.name


@pytest.mark.drill
def test_one_system_per_folder_and_clean_ends_it(directory: Path) -> None:
    first = Demo(directory)
    first.wait_for(IDLE)
    endpoints = json.loads((directory / "endpoints.json").read_text())
    assert answers(f"{endpoints['inference']}/readyz")
    assert answers(endpoints["functions"]["verify_ingestion"] + "/robots.txt")

    second = Demo(directory)
    assert second.process.wait(60) == 1
    assert f"already running at {endpoints['dashboard']}, stop it with Ctrl-C there" in second.shown

    command = [sys.executable, "-m", "local.clean", "--directory", directory]
    subprocess.run(command, cwd=ROOT, check=True)
    assert first.process.wait(60) == 0
    assert first.left() == []
    assert not (directory / "state").exists()


@pytest.mark.drill
def test_what_a_killed_demo_left_is_ended_by_clean(directory: Path) -> None:
    started = Demo(directory)
    started.wait_for(ADDRESSES)
    started.process.kill()
    started.process.wait()
    assert started.left()
    subprocess.run([sys.executable, "-m", "local.clean", "--directory", directory], cwd=ROOT, check=True)
    wait_until(lambda: started.left() == [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--limit", "0"], "0 is not how many: give a whole number from 1"),
        (["--data", "no-such-folder"], "no-such-folder is not a folder"),
        (["--data", "."], ""),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_in_a_sentence(
    directory: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [str(empty) if word == "." else word for word in arguments]
    command = [sys.executable, "-m", "local", "--directory", directory, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (sentence or "There is no file under") in done.stderr + done.stdout


def test_scans_are_counted_whatever_versions_there_are(stack, monkeypatch) -> None:
    """Predictions of two releases and features of two versions are still one scan."""
    content = encode(healthy_slices()[9] + 3, "PNG")
    (upload,) = [demo.Upload("twice", "Cancer/twice.png", demo.Label.CANCER, content, 1)]
    (first,) = demo.run([upload], demo.Console(quiet=True))
    (scan,) = first.scans
    for table, version in (("predictions", "model_version"), ("features", "feature_version")):
        row = bigquery.query(f"SELECT * FROM {{dataset}}.{table} WHERE scan_id = @id", id=scan["scan_id"])[0]
        plain = json.loads(json.dumps(row, default=str)) | {version: "another"}
        bigquery.append(table, plain, key=f"{scan['scan_id']}/another")
    (again,) = demo.run([upload], demo.Console(quiet=True))
    assert again.is_expected
    assert len(again.scans) == 1
