"""Spark beside a plain loop and a process pool: `make bench-preprocessing`.

All three read the same scans from the same storage stand-in, do the same work and write Parquet back: preparing, then
each feature of what was prepared. Real scans are repeated under new ids. The session is up and every process warm
before the clock starts; runs take turns, and medians are told. The loop is measured on the smallest size, the pool on
that and, preparing, on the next.

Prints a table and merges its figures into .local/bench/preprocessing.json, so that sizes can be measured one at a time.
"""

import argparse
import io
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from local.emulators.dataproc import spark_environment
from local.java import java_home
from local.stack import system as stack
from local.stack.processes import Supervisor, free_port
from local.stack.provision import RELEASE, make_buckets, make_release
from services.preprocessing.feature_files import FeatureSpec, backbone_embeddings, write_features_of
from services.preprocessing.fit import fit
from services.preprocessing.job import _training_scans, feature_spec, fit_all, prepare_partitions
from services.preprocessing.partitions import Manifest, on_executors, parquet, read_manifest
from services.preprocessing.prepare import prepared_row
from shared import config
from shared.events import ScanAccepted
from shared.gcp import registry, storage
from shared.ml.dataset import SCHEMA, prepared_object, tensors
from shared.ml.features import flatten
from tests.services.preprocessing.scans import write_manifest
from tests.support.events import stored_scan

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / ".local" / "bench" / "preprocessing.json"
SIZES = (1_000, 5_000, 20_000)
STORED = 1_000
CORES = os.process_cpu_count() or 1
MB = 1e6
VECTORS = pa.schema([("scan_id", pa.string()), ("vector", pa.list_(pa.float64()))])

Figures = dict[str, float]
Work = Callable[[int], Any]
"""Does one part."""
Runner = Callable[[Work, Sequence[int]], object]
"""Has the work of each part done, by a loop, a pool or Spark."""


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    with storage_stand_in() as folder, runners(folder) as everybody:
        scans = store(arguments.data)
        spec = warm_up(everybody, scans)
        for size in arguments.sizes:
            with peak_memory(size):
                measure(everybody, spec, scans, size, arguments)
    record(growth(figures()))
    table = Table("figure", "value", title=f"Preprocessing, {CORES} cores")
    for name, value in figures().items():
        table.add_row(name, f"{value:,.4g}")
    Console().print(table)


@contextmanager
def runners(folder: Path) -> Iterator[dict[str, Runner]]:
    """A loop in a process of its own and a pool, one thread each as a Spark task has; and a Spark session."""
    os.environ.update(spark_environment(java_home(folder / "java")) | {"OMP_NUM_THREADS": "1"})
    started = time.monotonic()
    spark = SparkSession.builder.appName("benchmark").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    record({"session_start_s": time.monotonic() - started})
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as loop, ProcessPoolExecutor(CORES, context) as pool:
        yield {"loop": partial(plainly, loop), "pool": partial(plainly, pool), "spark": partial(on_executors, spark)}
    spark.stop()


def plainly(pool: ProcessPoolExecutor, work: Work, numbers: Sequence[int]) -> None:
    """Part after part, without Spark."""
    list(pool.map(partial(_single_threaded, work), numbers))


def _single_threaded(work: Work, number: int) -> None:
    cv2.setNumThreads(1)
    work(number)


def warm_up(everybody: Mapping[str, Runner], scans: Sequence[ScanAccepted]) -> FeatureSpec:
    """Start every process, load every module and network; answers a spec with a basis of real scans."""
    names = prepared(manifest(scans, STORED))
    spec = feature_spec(fit_all(SparkSession.active(), config.prepared_bucket(), replace=True))
    small = manifest(scans, 400)
    for name, run in everybody.items():
        progress(f"warming {name}")
        run(partial(plain_part, small), range(len(small.ranges)))
        for work in features(spec, names[:4]).values():
            run(work, range(4))
    return spec


def measure(
    everybody: Mapping[str, Runner],
    spec: FeatureSpec,
    scans: Sequence[ScanAccepted],
    size: int,
    wanted: argparse.Namespace,
) -> None:
    """Measure one size, and record each figure as soon as it is there."""
    if "prepare" in wanted.steps:
        racing = racers(everybody, size, SIZES[1])
        races = {name: partial(prepare_plainly, run, scans, size) for name, run in racing.items()}
        races["spark"] = lambda: prepared(manifest(scans, size))
        record(medians("", size, wanted.runs, races))
    names = prepared(manifest(scans, size))
    for step, work in features(spec, names).items():
        if step in wanted.steps:
            racing = racers(everybody, size, SIZES[0])
            races = {name: partial(run, work, range(len(names))) for name, run in racing.items()}
            record(medians(f"{step}_", size, wanted.runs, races))
    if "fit" in wanted.steps:
        record(fit_seconds(names, size))


def racers(everybody: Mapping[str, Runner], size: int, most_of_pool: int) -> dict[str, Runner]:
    """Spark at every size, the loop at the smallest alone, the pool up to a size: they take long and do not change."""
    most = {"spark": size, "loop": SIZES[0], "pool": most_of_pool}
    return {name: run for name, run in everybody.items() if size <= most[name]}


def medians(step: str, size: int, runs: int, races: Mapping[str, Callable[[], object]]) -> Figures:
    """Median images a second of each, the runs taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in races}
    for _, (name, race) in itertools.product(range(runs), races.items()):
        started = time.monotonic()
        race()
        rates[name].append(size / (time.monotonic() - started))
        progress(f"{size:>6} {step or 'prepare_'} {name:>5} {rates[name][-1]:8.1f} images a second")
    found = {name: statistics.median(each) for name, each in rates.items()}
    shares = {f"{size}_{step}spark_to_pool": found["spark"] / found["pool"]} if "pool" in found else {}
    plain = {"loop": "loop", "pool": "pool"} if size == SIZES[0] else {"pool": f"{size}_pool"}
    names = {"spark": str(size)} | plain
    return {f"{names[name]}_{step}images_per_second": rate for name, rate in found.items()} | shares


def prepared(scans: Manifest) -> list[str]:
    """Names of the objects that Spark prepares of a manifest, by the job's own code."""
    _, partitions = prepare_partitions(SparkSession.active(), scans)
    return sorted(name for partition in partitions for name in partition["objects"])


def prepare_plainly(run: Runner, scans: Sequence[ScanAccepted], size: int) -> None:
    """The same work without Spark, the manifest's reading included."""
    listed = manifest(scans, size)
    run(partial(plain_part, listed), range(len(listed.ranges)))


def plain_part(scans: Manifest, number: int) -> None:
    """What anybody writes first: read a scan, prepare it, read the next; then write them."""
    rows: dict[str, list[dict]] = {}
    for scan in scans.partition(number):
        rows.setdefault(scan.label, []).append(prepared_row(scan, storage.read(scan.bucket, scan.name)))
    for label, group in rows.items():
        storage.write(scans.bucket, "plain/" + prepared_object(label, scans.id, number), *parquet(group, SCHEMA))


def features(spec: FeatureSpec, names: Sequence[str]) -> dict[str, Work]:
    """Each feature of what was prepared; `features` are all of them as the job computes and stores them."""
    kinds = {
        "standardised": standardised,
        "principal_components": principal_components,
        "model_embedding": model_embedding,
        "cnn_features": cnn_features,
    }
    bucket = config.prepared_bucket()
    alone = {kind: partial(vectors_of, compute, spec, bucket, names) for kind, compute in kinds.items()}
    return alone | {"features": partial(all_features, spec, bucket, names)}


def vectors_of(
    compute: Callable[[FeatureSpec, np.ndarray], np.ndarray],
    spec: FeatureSpec,
    bucket: str,
    names: Sequence[str],
    number: int,
) -> None:
    """One feature of the scans in one prepared object, written as Parquet; standardised pixels are not stored."""
    content = storage.read(bucket, names[number])
    table = pq.read_table(io.BytesIO(content), columns=["scan_id", "image"])
    vectors = compute(spec, tensors(table))
    if compute is not standardised:
        ids = table["scan_id"].to_pylist()
        rows = [{"scan_id": each, "vector": vector} for each, vector in zip(ids, vectors, strict=True)]
        storage.write(bucket, f"vectors/{number}", *parquet(rows, VECTORS))


def standardised(spec: FeatureSpec, images: np.ndarray) -> np.ndarray:
    """Flattened and standardised."""
    return registry.load_basis(spec.basis).standardise(flatten(images))


def principal_components(spec: FeatureSpec, images: np.ndarray) -> np.ndarray:
    """On the fitted axes."""
    return registry.load_basis(spec.basis).project(images)


def model_embedding(spec: FeatureSpec, images: np.ndarray) -> np.ndarray:
    """Of the released model."""
    model = registry.load_model(spec.model)
    return np.stack([model.predict(image).embedding for image in images])


def cnn_features(spec: FeatureSpec, images: np.ndarray) -> np.ndarray:
    """Of the ImageNet backbone."""
    return backbone_embeddings(images)


def all_features(spec: FeatureSpec, bucket: str, names: Sequence[str], number: int) -> int:
    """As the job does it."""
    return write_features_of(bucket, names[number], spec)


def fit_seconds(names: Sequence[str], size: int) -> Figures:
    """Seconds to fit a basis, on how many training scans, and how many axes it has."""
    started = time.monotonic()
    counts = _training_scans(config.prepared_bucket())
    basis = fit(SparkSession.active(), config.prepared_bucket(), {name: counts[name] for name in names})
    found = {"fit_s": time.monotonic() - started, "fit_scans": basis.scans, "fit_axes": len(basis.axes)}
    progress(f"{size:>6} fit {found}")
    return {f"{size}_{name}": value for name, value in found.items()}


def growth(found: Figures) -> Figures:
    """How many times longer 20,000 scans take than 5,000."""
    small, large = (found.get(f"{size}_images_per_second") for size in SIZES[1:])
    return {"time_20000_to_5000": SIZES[2] / large / (SIZES[1] / small)} if small and large else {}


_manifests = itertools.count()


def manifest(scans: Sequence[ScanAccepted], size: int) -> Manifest:
    """A manifest of so many scans under ids that no other has."""
    mark = f"{next(_manifests):08x}"
    events = [
        replace(scan, scan_id=f"{mark}{number:056x}")
        for number, scan in zip(range(size), itertools.cycle(scans), strict=False)
    ]
    bucket = config.prepared_bucket()
    return read_manifest(bucket, write_manifest(bucket, events))


def store(data: Path) -> list[ScanAccepted]:
    """Put real scans into the scans bucket."""
    files = sorted((data / "kaggle").rglob("*.jpg"))
    chosen = files[:: max(len(files) // STORED, 1)][:STORED]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_store, chosen))


def _store(path: Path) -> ScanAccepted:
    label = "Non-Cancer" if path.parent.name == "notumor" else "Cancer"
    return stored_scan(config.scans_bucket(), path.read_bytes(), label)


@contextmanager
def storage_stand_in() -> Iterator[Path]:
    """Cloud Storage's stand-in alone, with the project's buckets and the release."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        supervisor = Supervisor(folder)
        ports = {name: free_port() for name in ("pubsub", "storage", "bigquery")}
        backends = stack._backends(folder / "state", ports, ports, stack.Options())
        try:
            supervisor.start([service for service in backends if service.name == "storage"])
            os.environ.update(stack._client_environment(ports, 0))
            make_buckets(stack.BUCKETS)
            make_release(config.models_bucket(), RELEASE)
            yield folder
        finally:
            supervisor.stop()


@contextmanager
def peak_memory(size: int) -> Iterator[None]:
    """Record the largest resident memory of the driver (Python and Java) and of one executor process."""
    peaks = {"driver_rss_mb": 0.0, "executor_rss_mb": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            for name, value in zip(peaks, _memory(psutil.Process()), strict=True):
                peaks[name] = max(peaks[name], value / MB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        record(peaks | {f"{size}_{name}": value for name, value in peaks.items()})


def _memory(own: psutil.Process) -> tuple[int, int]:
    """Bytes of this process and its Java, and of the largest Python worker."""
    driver, workers = own.memory_info().rss, [0]
    for process in own.children(recursive=True):
        try:
            command, resident = process.cmdline(), process.memory_info().rss
        except psutil.Error:
            continue  # ended meanwhile
        if command and "java" in command[0]:
            driver += resident
        elif "pyspark.daemon" in command:
            workers.append(resident)
    return driver, max(workers)


def figures() -> Figures:
    """What was measured so far."""
    return json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}


def record(found: Figures) -> None:
    """Add figures to those of earlier calls."""
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures() | found, indent=2))


def progress(line: str) -> None:
    """Tell somebody who waits."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


STEPS = ("prepare", "standardised", "principal_components", "model_embedding", "cnn_features", "features", "fit")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-preprocessing", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real scans")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="scans of a run")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="what to measure")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median is told")
    return parser.parse_args()


if __name__ == "__main__":
    main()
