"""The inference service beside the bare loop, FastAPI with Keras, LitServe and BentoML: `make bench-inference`.

Everything runs on the same cores, the load generator included: the same client, files and model for all. Medians of
three rounds; in each the bare loop and then every system, started anew, at every concurrency, so that a machine that
slows down slows all of them. `--beside TREE` measures another version of the service in the same rounds.

Rates suffer from whatever else the machine does; processor time per request suffers far less. `cpu_ms_per_request` is
that of the service's process with as many requests in flight as there are cores, `bare_cpu_ms_per_image` that of the
bare loop with as many threads.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import psutil

from local.stack.processes import free_port
from services.inference.served_models import BUNDLED
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model, read_release
from tests.benchmarks import inference_many
from tests.benchmarks.inference_load import BOUNDARY, request

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / ".local" / "bench" / "inference.json"
CORES = os.process_cpu_count() or 1
CONCURRENCIES = (1, 2, 8, 32)
OVERLOAD = 3
"""Times the saturating load."""
SAMPLE = 200


@dataclass(frozen=True, slots=True)
class System:
    """Something that answers scans over HTTP."""

    name: str
    command: Sequence[str]
    path: str
    """Of the route."""
    tree: Path = ROOT
    """Root of the repository that it runs from."""


SYSTEMS = [
    System("scanflow", ["-m", "services.inference"], "/v1/predict"),
    System("naive", ["-m", "uvicorn", "tests.benchmarks.inference_naive:app", "--port", "PORT"], "/predict"),
    System("litserve", ["-m", "tests.benchmarks.inference_litserve", "PORT", str(CORES)], "/predict"),
    System(
        "bentoml", ["-m", "bentoml", "serve", "tests.benchmarks.inference_bentoml:Scan", "--port", "PORT"], "/predict"
    ),
]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "kaggle" / "Training")
    parser.add_argument("--quick", action="store_true", help="one short run of each: a look, not a measurement")
    parser.add_argument(
        "--beside", type=Path, help="root of another version of this repository, whose service runs too"
    )
    parser.add_argument("--systems", nargs="+", default=[system.name for system in SYSTEMS], help="only these")
    arguments = parser.parse_args()
    systems = [system for system in SYSTEMS if system.name in ("scanflow", *arguments.systems)]
    if arguments.beside:
        systems.insert(1, replace(SYSTEMS[0], name="before", tree=arguments.beside.resolve()))
    runs, seconds, overload_seconds = (1, 1.5, 8) if arguments.quick else (3, 3, 60)
    scans = sample(arguments.data)
    figures = {}
    for system in systems[: 2 if arguments.beside else 1]:
        figures |= cold_start(system, scans[0], 3 if arguments.quick else 5)
    rounds: dict[str, list[float]] = {}
    for number in range(runs):
        print(f"round {number + 1} of {runs} ...", flush=True)
        rate, _, processor = bare_in_process(scans, seconds, CORES)
        _note(rounds, "bare_rps", rate)
        _note(rounds, "bare_cpu_ms_per_image", processor)
        _note(rounds, "bare_p50_ms", bare_in_process(scans, seconds, 1)[1])
        for system in systems:
            measure(system, scans, seconds, rounds)
        with running(SYSTEMS[0], scans[0]) as (url, _):
            _note(rounds, "batch_of_bare", inference_many.batch_rate(url, scans) / rate)
            _note(rounds, "pages_of_bare", inference_many.pages_of_bare(url, scans))
    figures |= {name: round(statistics.median(values), 2) for name, values in rounds.items()}
    with running(SYSTEMS[0], scans[0]) as (url, started):
        figures |= overloaded(url, started, scans, overload_seconds, OVERLOAD * figures["scanflow_c32_rps"])
    report(figures, systems)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")


def sample(folder: Path) -> list[Path]:
    """Real JPEGs, the same at every run."""
    files = sorted(folder.rglob("*.jpg"))
    if not files:
        sys.exit(f"no JPEGs under {folder}; name a folder of scans with --data")
    return files[:: max(len(files) // SAMPLE, 1)][:SAMPLE]


def bare(scans: list[Path], seconds: float, threads: int) -> tuple[float, float, float]:
    """Decode, prepare, network in a loop, in each of some threads.

    Return scans per second, median milliseconds of one, and milliseconds of processor time per scan.
    """
    model, contents = read_release(BUNDLED), [path.read_bytes() for path in scans]
    times: list[float] = []
    end = 0.0

    def loop() -> None:
        own = []
        index = 0
        while (start := time.perf_counter()) < end:
            model.predict(prepare(decode(contents[index % len(contents)]).pages[0]))
            own.append(time.perf_counter() - start)
            index += 1
        times.extend(own)

    model.predict(prepare(decode(contents[0]).pages[0]))
    started = time.process_time()
    end = time.perf_counter() + seconds
    workers = [threading.Thread(target=loop) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    processor = (time.process_time() - started) * 1000 / len(times)
    return len(times) / seconds, statistics.median(times) * 1000, processor


def cold_start(system: System, scan: Path, runs: int) -> dict[str, float]:
    """Seconds from the start of the process to its first correct answer."""
    content = scan.read_bytes()
    expected = expected_probability(read_release(BUNDLED), content)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        with process(system) as (url, _):
            answer = first_answer(url + system.path, content)
            seconds.append(time.perf_counter() - start)
        if system.name == SYSTEMS[0].name:  # another version has a release of its own
            assert answer["probability"] == expected
        assert answer["scan_id"] == hashlib.sha256(content).hexdigest()
    return {_of(system, "cold_start_s"): round(statistics.median(seconds), 3)}


def expected_probability(model: Model, content: bytes) -> float:
    """What the service must answer."""
    return model.predict(prepare(decode(content).pages[0])).probability


def measure(system: System, scans: list[Path], seconds: float, rounds: dict[str, list[float]]) -> None:
    """Note the closed-loop figures of one system at every concurrency, and the most memory seen after any of them."""
    memory = []
    with running(system, scans[0]) as (url, started):
        for concurrency in CONCURRENCIES:
            before = processor_seconds(started)
            result = generate(url + system.path, scans, seconds, concurrency)
            processor = processor_seconds(started) - before
            answered = np.array(result["seconds"].get("200", [])) * 1000
            assert len(answered), f"{system.name} answered nothing; see .local/bench/{system.name}.log"
            key = f"{system.name}_c{concurrency}"
            _note(rounds, f"{key}_rps", len(answered) / result["duration"])
            for percentile in (50, 95, 99):
                _note(rounds, f"{key}_p{percentile}_ms", float(np.percentile(answered, percentile)))
            _note(rounds, "client_ms", result["processor"] / len(answered) * 1000)
            if concurrency == CORES:
                _note(rounds, _of(system, "cpu_ms_per_request"), processor / len(answered) * 1000)
            memory.append(resident_mb(started))
            refused = sum(len(values) for status, values in result["seconds"].items() if status != "200")
            if refused or result["lost"]:
                print(f"  {key}: {refused} refused, {result['lost']} connections lost")
    _note(rounds, _of(system, "rss_mb"), max(memory))


def _of(system: System, figure: str) -> str:
    """Return the figure's name for a system: our own has no prefix."""
    return figure if system.name == "scanflow" else f"{system.name}_{figure}"


def overloaded(url: str, process: psutil.Process, scans: list[Path], seconds: float, rate: float) -> dict[str, float]:
    """What becomes of requests that come at a rate far above the saturating one."""
    before = resident_mb(process)
    result = generate(f"{url}/v1/predict", scans, seconds, 32, rate)
    accepted = np.array(result["seconds"].get("200", [])) * 1000
    refused = np.array([value for status in ("429", "503") for value in result["seconds"].get(status, [])]) * 1000
    assert set(result["seconds"]) <= {"200", "429", "503"}, result["seconds"].keys()
    return {
        "overload_offered_rps": round(rate, 1),
        "overload_accepted_rps": round(len(accepted) / result["duration"], 1),
        "overload_p99_ms": round(float(np.percentile(accepted, 99)), 1),
        "overload_refusal_p99_ms": round(float(np.percentile(refused, 99)), 1),
        "overload_lost": result["lost"],
        "overload_rss_before_mb": before,
        "overload_rss_after_mb": resident_mb(process),
    }


def bare_in_process(scans: list[Path], seconds: float, threads: int) -> tuple[float, float, float]:
    """`bare` in a process of its own, as clean as the service's."""
    code = (
        "import sys, json; from pathlib import Path; from tests.benchmarks.inference import bare;"
        "print(json.dumps(bare([Path(p.strip()) for p in sys.stdin], float(sys.argv[1]), int(sys.argv[2]))))"
    )
    rate, milliseconds, processor = json.loads(_python(["-c", code, str(seconds), str(threads)], scans))
    return rate, milliseconds, processor


def generate(url: str, scans: list[Path], seconds: float, connections: int, rate: float = 0) -> dict:
    """Load from a process of its own."""
    arguments = ["-m", "tests.benchmarks.inference_load", url, str(seconds), str(connections)]
    return json.loads(_python(arguments + ([str(rate)] if rate else []), scans))


def _python(arguments: list[str], scans: list[Path]) -> str:
    paths = "\n".join(map(str, scans))
    finished = subprocess.run(
        [sys.executable, *arguments],
        input=paths,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=_environment(),
    )
    return finished.stdout.strip().splitlines()[-1]


@contextmanager
def process(system: System) -> Iterator[tuple[str, psutil.Process]]:
    """The system's processes, started and ended; not waited for."""
    port = free_port()
    command = [sys.executable, *(str(port) if word == "PORT" else word for word in system.command)]
    log = ROOT / ".local" / "bench" / f"{system.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        environment = _environment(PORT=str(port), PYTHONPATH=str(system.tree))
        started = psutil.Popen(command, cwd=system.tree, env=environment, stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}", started
    finally:
        family = [started, *started.children(recursive=True)]
        for member in family:
            member.terminate()
        for member in psutil.wait_procs(family, 10)[1]:
            member.kill()


@contextmanager
def running(system: System, scan: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The system, warm."""
    with process(system) as (url, started):
        for _ in range(50):
            first_answer(url + system.path, scan.read_bytes())
        yield url, started


def first_answer(url: str, content: bytes, patience: float = 120) -> dict:
    """The first answer with status 200 to one scan."""
    body = request("/", "", content).partition(b"\r\n\r\n")[2]
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    deadline = time.perf_counter() + patience
    while True:
        try:
            with urlopen(Request(url, body, headers)) as response:  # noqa: S310 - our own service
                return json.load(response)
        except (URLError, ConnectionError):
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.005)


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process and all below it have taken."""
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))


def resident_mb(process: psutil.Process) -> float:
    """Resident memory of a process and all below it."""
    family = [process, *process.children(recursive=True)]
    return round(sum(member.memory_info().rss for member in family) / 2**20, 1)


def _environment(**more: str) -> dict[str, str]:
    quiet = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "BENTOML_DO_NOT_TRACK": "true",
        "DO_NOT_TRACK": "1",
    }
    return os.environ | quiet | {"PYTHONPATH": str(ROOT)} | more


def _note(rounds: dict[str, list[float]], name: str, value: float) -> None:
    rounds.setdefault(name, []).append(value)


def report(figures: dict[str, float], systems: list[System]) -> None:
    """Print the figures as a table."""
    print(f"\n{'':10} {'in flight':>9} {'req/s':>8} {'of bare':>8} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    print(f"{'bare loop':10} {CORES:9} {figures['bare_rps']:8.1f} {1:8.2f} {figures['bare_p50_ms']:8.2f}")
    for system in systems:
        for concurrency in CONCURRENCIES:
            key = f"{system.name}_c{concurrency}"
            rate = figures[f"{key}_rps"]
            times = " ".join(f"{figures[f'{key}_p{percentile}_ms']:8.2f}" for percentile in (50, 95, 99))
            print(f"{system.name:10} {concurrency:9} {rate:8.1f} {rate / figures['bare_rps']:8.2f} {times}")
    print()
    for name, value in figures.items():
        if "_c" not in name or "cold" in name or "cpu" in name:
            print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
