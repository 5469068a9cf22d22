"""Spark beside a plain loop and a process pool: `make bench-preprocessing`.

All three read the same scans from the same storage stand-in, prepare them with the same function and write Parquet
back. A thousand real scans are repeated under new ids. Medians of three runs, the session being up; --quick leaves out
all but the smallest size. Prints a table and writes .local/bench/preprocessing.json.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import psutil
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from local import stack
from local.dataproc import spark_environment
from local.java import java_home
from local.processes import Supervisor
from local.provision import RELEASE, make_buckets
from services.preprocessing.describe import backbone_embeddings
from services.preprocessing.fit import fit
from services.preprocessing.job import BACKBONE, prepare_parts
from services.preprocessing.parts import Manifest, parquet, read_manifest
from services.preprocessing.prepare import prepared_row
from shared import config
from shared.events import ScanAccepted
from shared.features import Basis, pixel_statistics
from shared.gcp import storage
from shared.model import read_release
from shared.prepared import SCHEMA, prepared_object
from tests.services.preprocessing.scans import stored, write_manifest

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / ".local" / "bench" / "preprocessing.json"
SIZES = (1_000, 5_000, 20_000)
STORED = 1_000
RUNS = 3
CORES = os.process_cpu_count() or 1
MB = 1e6


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real scans")
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    arguments = parser.parse_args()
    with storage_stand_in() as folder:
        scans = store(arguments.data)
        figures = measure(scans, SIZES[:1] if arguments.quick else SIZES, folder)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2))
    table = Table("figure", "value", title=f"Preprocessing, {CORES} cores")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.4g}")
    Console().print(table)


def measure(scans: Sequence[ScanAccepted], sizes: Sequence[int], folder: Path) -> dict[str, float]:
    """Every figure, by name."""
    figures: dict[str, float] = {}
    os.environ.update(spark_environment(java_home(folder / "java")))
    started = time.monotonic()
    spark = SparkSession.builder.appName("benchmark").getOrCreate()
    prepare_parts(spark, manifest(scans, 200))
    figures["session_start_s"] = time.monotonic() - started
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool, peak_memory(figures):
        smallest = manifest(scans, sizes[0])
        plain_all(smallest, pool)
        figures |= medians(  # runs of the three alternate: a machine that slows down slows all
            sizes[0],
            {
                "loop": lambda: plain_all(smallest, ThreadPoolExecutor(1)),
                "pool": lambda: plain_all(smallest, pool),
                str(sizes[0]): lambda: prepare_parts(spark, manifest(scans, sizes[0])),
            },
        )
        for size in sizes[1:]:
            figures |= medians(size, {str(size): partial(spark_run, spark, scans, size)})
        figures["spark_to_pool"] = figures[f"{sizes[0]}_images_per_second"] / figures["pool_images_per_second"]
        figures |= fit_seconds(spark)
    spark.stop()
    return figures | features_per_second(scans[:128])


def medians(size: int, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median images a second of each, the runs taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _, (name, run) in itertools.product(range(RUNS), runs.items()):
        started = time.monotonic()
        run()
        rates[name].append(size / (time.monotonic() - started))
        print(f"{name:>6}: {rates[name][-1]:8.1f} images a second", flush=True)
    return {f"{name}_images_per_second": statistics.median(each) for name, each in rates.items()}


def spark_run(spark: SparkSession, scans: Sequence[ScanAccepted], size: int) -> None:
    """Prepare so many scans that were not prepared before."""
    prepare_parts(spark, manifest(scans, size))


def plain_all(scans: Manifest, executor: Executor) -> None:
    """The same work without Spark."""
    cv2.setNumThreads(1)
    list(executor.map(partial(plain_part, scans), range(len(scans.ranges))))


def plain_part(scans: Manifest, number: int) -> None:
    """What anybody writes first: read a scan, prepare it, read the next; then write them."""
    cv2.setNumThreads(1)
    rows: dict[str, list[dict]] = {}
    for scan in scans.part(number):
        rows.setdefault(scan.label, []).append(prepared_row(scan, storage.read(scan.bucket, scan.name)))
    for label, prepared in rows.items():
        storage.write(scans.bucket, "plain/" + prepared_object(label, scans.id, number), *parquet(prepared, SCHEMA))


def features_per_second(scans: Sequence[ScanAccepted]) -> dict[str, float]:
    """Images a second of each kind of feature, in one thread."""
    rows = [prepared_row(scan, storage.read(scan.bucket, scan.name)) for scan in scans]
    images = np.stack([np.frombuffer(row["image"], np.float32).reshape(128, 128, 3) for row in rows])
    pixels = images[0].size
    axes = np.ones((256, pixels // 3), np.float32)
    ones = np.ones(pixels, np.float32)
    basis = Basis(
        version="", mean=ones, deviation=ones, axes=axes, explained=ones[:256], scans=1, preprocessing_version=""
    )
    model = read_release(RELEASE)
    kinds: dict[str, Callable[[], object]] = {
        "pixel_statistics": lambda: [pixel_statistics(image) for image in images],
        "principal_components": lambda: [basis.project(image) for image in images],
        "model_embedding": lambda: [model.predict(image) for image in images],
        "cnn_features": lambda: backbone_embeddings(str(BACKBONE), images),
    }
    return medians(len(images), kinds)


def fit_seconds(spark: SparkSession) -> dict[str, float]:
    """Seconds to fit a basis on what was prepared, and on how many training scans."""
    names = [blob.name for blob in storage.objects(config.prepared_bucket(), "scans/")]
    started = time.monotonic()
    basis = fit(spark, config.prepared_bucket(), names)
    return {"fit_s": time.monotonic() - started, "fit_scans": basis.scans if basis else 0}


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
    return stored(config.scans_bucket(), path.read_bytes(), label)


@contextmanager
def storage_stand_in() -> Iterator[Path]:
    """Cloud Storage's stand-in alone, with the project's buckets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        supervisor = Supervisor(folder)
        services = {service.name: service for service in stack._backends(folder / "state")}
        try:
            supervisor.start([services["storage"]])
            os.environ.update(stack._client_environment(services, 0))
            make_buckets(stack.BUCKETS)
            yield folder
        finally:
            supervisor.stop()


@contextmanager
def peak_memory(figures: dict[str, float]) -> Iterator[None]:
    """Note the largest resident memory of the driver (Python and Java) and of one executor process."""
    peaks = {"driver_rss_mb": 0.0, "executor_rss_mb": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            driver, workers = _memory(psutil.Process())
            peaks["driver_rss_mb"] = max(peaks["driver_rss_mb"], driver / MB)
            peaks["executor_rss_mb"] = max(peaks["executor_rss_mb"], workers / MB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        figures |= peaks


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


if __name__ == "__main__":
    main()
