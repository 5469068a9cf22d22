"""Whatever dies while the job runs, running it again ends in the same tables as a run that nothing disturbed."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import psutil
import pytest
from pyspark.sql import SparkSession

from local.stack.provision import make_buckets
from local.stack.system import Stack
from local.stack.terraform_config import ROOT
from services.preprocessing import partitions
from services.preprocessing.__main__ import SOME_FAILED
from services.preprocessing.job import preprocess, refit
from shared import config
from shared.events import ScanAccepted
from shared.gcp import bigquery, registry, storage
from shared.ml import manifests
from shared.ml.dataset import partitions_folder, split_of
from shared.ml.features import feature_version
from tests.services.preprocessing.scans import accepted, pictures, write_manifest
from tests.support.datasets import own_dataset
from tests.support.waiting import wait_until

GOOD = 100
"""Enough for a basis."""
_PARTITION_BYTES = 4 << 20
"""So that they are several partitions."""
_WITHIN_S = 300
BUCKET = f"{uuid.uuid4().hex[:8]}-prepared"
TABLES = ("features", "cnn_features", "preprocessing_errors")

Tables = dict[str, dict[str, dict]]


class Killed(BaseException):
    """The driver ends here; no code catches it."""


@pytest.fixture(scope="module")
def listed(stack: Stack) -> list[ScanAccepted]:
    """Scans, one of which has vanished."""
    labels = ("Cancer", "Non-Cancer")
    scans = [accepted(config.scans_bucket(), each, labels[i % 2]) for i, each in enumerate(pictures(GOOD, seed=21))]
    return [*scans, replace(scans[0], name="Cancer/gone.png", scan_id="b" * 64)]


@dataclass(frozen=True)
class Cloud:
    """An empty prepared bucket and dataset, which the driver and the executors use."""

    bucket: str
    dataset: str

    def tables(self) -> Tables:
        """Every row of the job's tables by its key, without the time of its recording."""
        keys = {
            "features": ("scan_id", "feature_version"),
            "cnn_features": ("scan_id", "backbone"),
            "preprocessing_errors": ("scan_id", "label"),
        }
        return {table: self._rows(table, key) for table, key in keys.items()}

    def _rows(self, table: str, key: tuple[str, str]) -> dict[str, dict]:
        rows = bigquery.query(f"SELECT * EXCEPT (recorded_at) FROM {self.dataset}.{table}")
        keyed = {" ".join(row[column] for column in key): row for row in rows}
        assert len(keyed) == len(rows)
        return keyed

    def names(self, prefix: str) -> list[str]:
        """Names of the objects under a prefix."""
        return [blob.name for blob in storage.objects(self.bucket, prefix)]


@contextmanager
def empty_cloud(spark: SparkSession) -> Iterator[Cloud]:
    """A cloud where nothing was prepared yet. The bucket is the same each time: Spark's workers keep its name."""
    make_buckets({"prepared": BUCKET})
    for blob in storage.objects(BUCKET):
        blob.delete()
    with own_dataset(TABLES) as dataset, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREPARED_BUCKET", BUCKET)
        patch.setitem(spark.sparkContext.environment, "PREPARED_BUCKET", BUCKET)
        patch.setattr(partitions, "_PARTITION_BYTES", _PARTITION_BYTES)
        registry.load_basis.cache_clear()
        yield Cloud(BUCKET, dataset)
    registry.load_basis.cache_clear()


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, listed: list[ScanAccepted]) -> Tables:
    """What one run leaves behind."""
    with empty_cloud(spark) as cloud:
        preprocess(spark, write_manifest(cloud.bucket, listed))
        tables = cloud.tables()
    assert {name: len(rows) for name, rows in tables.items()} == {
        "features": GOOD,
        "cnn_features": GOOD,
        "preprocessing_errors": 1,
    }
    return tables


@pytest.mark.drill
def test_workers_that_are_killed_lose_and_double_nothing(
    spark: SparkSession, listed: list[ScanAccepted], undisturbed: Tables
) -> None:
    with empty_cloud(spark) as cloud:
        manifest = write_manifest(cloud.bucket, listed)
        killed: list[int] = []

        def kill_twice() -> None:
            for first in (partitions_folder(manifest), "cnn_features/"):
                wait_until(lambda first=first: cloud.names(first))
                killed.append(kill_workers())

        killer = threading.Thread(target=kill_twice)
        killer.start()
        summary = preprocess(spark, manifest)
        killer.join()
        assert min(killed) > 0
        assert (summary.scans, len(summary.errors)) == (GOOD, 1)
        assert_same(cloud.tables(), undisturbed)


@pytest.mark.drill
def test_a_driver_that_dies_before_each_of_its_writes_ends_in_the_same_tables(
    spark: SparkSession, listed: list[ScanAccepted], undisturbed: Tables
) -> None:
    with empty_cloud(spark) as cloud:
        manifest = write_manifest(cloud.bucket, listed)
        died: set[str] = set()
        while not run_until_a_new_write(spark, manifest, died):
            assert manifests.success_object(manifest) not in cloud.names(manifests.FOLDER)
        assert len(died) == 10  # basis, pointer, three loads, errors, summary, two pictures, _SUCCESS
        assert manifests.success_object(manifest) in cloud.names(manifests.FOLDER)
        assert_same(cloud.tables(), undisturbed)


@pytest.mark.drill
def test_a_job_that_is_killed_while_it_computes_features_goes_on_and_its_status_tells_of_errors(
    spark: SparkSession, listed: list[ScanAccepted], undisturbed: Tables
) -> None:
    with empty_cloud(spark) as cloud:
        manifest = write_manifest(cloud.bucket, listed)
        job = submit("--manifest", manifest)
        wait_until(lambda: cloud.names("cnn_features/") or job.poll() is not None)
        os.killpg(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        assert manifests.success_object(manifest) not in cloud.names(manifests.FOLDER)
        assert submit("--manifest", manifest).wait(_WITHIN_S) == SOME_FAILED
        assert manifests.success_object(manifest) in cloud.names(manifests.FOLDER)
        # Its partitions are cut at their usual size, so the basis has another name.
        assert_same(by_scan(cloud.tables()), by_scan(undisturbed))


def test_a_refit_computes_features_of_all_scans_on_new_axes(spark: SparkSession, listed: list[ScanAccepted]) -> None:
    earlier, later = listed[: GOOD - 20], listed[GOOD - 20 : GOOD]
    later.append(replace(listed[-1], label="Unlabelled"))  # vanished, so that an object without scans is among them
    with empty_cloud(spark) as cloud:
        preprocess(spark, write_manifest(cloud.bucket, earlier))
        first = current_basis()
        preprocess(spark, write_manifest(cloud.bucket, later))
        assert current_basis() == first

        summary = refit(spark)
        second = current_basis()
        assert second != first
        assert registry.load_basis(second).scans == sum(split_of(event.scan_id) == "train" for event in listed[:GOOD])
        assert (summary.rows, summary.done["features"], summary.errors) == (GOOD, GOOD, [])
        model = registry.current_model().card.version
        ids = {event.scan_id for event in listed[:GOOD]}
        for version in (first, second):  # features of a version never change: the old rows stay
            wanted = feature_version(model, version)
            rows = [row for row in cloud.tables()["features"].values() if row["feature_version"] == wanted]
            assert {row["scan_id"] for row in rows} == ids
            assert {len(row["principal_components"]) for row in rows} == {len(registry.load_basis(version).axes)}
        report = f"reports/{feature_version(model, second)}/"
        assert {name.removeprefix(report) for name in cloud.names(report)} == {
            "summary.json",
            "projection.png",
            "explained_variance.png",
        }

        before = cloud.tables()
        again = refit(spark)
        assert again.done["features"] == 0
        assert_same(cloud.tables(), before)


def test_of_two_first_bases_one_is_current_for_all(spark: SparkSession, listed: list[ScanAccepted]) -> None:
    with empty_cloud(spark) as cloud:
        preprocess(spark, write_manifest(cloud.bucket, listed))
        first = registry.load_basis(current_basis())
        unfitted = registry.Pointer(None, None, 0)
        with pytest.raises(registry.PointerMoved):
            registry.move_pointer(registry.BASES, "late", unfitted)
        assert current_basis() == first.version


def current_basis() -> str | None:
    """Version that the pointer names now."""
    return registry.read_pointer(registry.BASES).version


def run_until_a_new_write(spark: SparkSession, manifest: str, died: set[str]) -> bool:
    """Run the job, whose driver dies at the first write that it did not die at before; says if the job was finished.

    `storage.create` writes by `storage.replace`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((storage, "write"), (storage, "replace"), (bigquery, "load")):
            patch.setattr(module, name, dying(getattr(module, name), name, died))
        try:
            preprocess(spark, manifest)
        except Killed:
            return False
    return True


def dying(call: Callable, name: str, died: set[str]) -> Callable:
    """The call, before which the driver dies once for each thing that it writes."""

    def instead(target: str, what: str | list[str], *rest: object, **options: object) -> object:
        write = f"{name} {target} {what if isinstance(what, str) else ''}"
        if write not in died:
            died.add(write)
            raise Killed
        return call(target, what, *rest, **options)

    return instead


def submit(*arguments: str) -> subprocess.Popen:
    """The job as a process of its own, with a Spark of its own."""
    return subprocess.Popen(
        [sys.executable, ROOT / "services" / "preprocessing" / "__main__.py", *arguments], start_new_session=True
    )


def kill_workers() -> int:
    """Kill every Python process of Spark's executors; answers how many there were."""
    workers = [each for each in psutil.Process().children(recursive=True) if "pyspark.daemon" in command(each)]
    for worker in workers:
        worker.kill()
    return len(workers)


def command(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def by_scan(tables: Tables) -> Tables:
    """The same rows by their scan alone, without the version of their features."""
    keyed = {
        table: {row["scan_id"]: {name: row[name] for name in row if name != "feature_version"} for row in rows.values()}
        for table, rows in tables.items()
    }
    assert all(len(keyed[table]) == len(rows) for table, rows in tables.items())
    return keyed


def assert_same(tables: Tables, expected: Tables) -> None:
    """The same rows; numbers up to rounding, since a basis that is fitted again sums in another order."""
    assert tables.keys() == expected.keys()
    for table, rows in expected.items():
        assert tables[table].keys() == rows.keys()
        for key, row in rows.items():
            for column, value in row.items():
                assert_equal(tables[table][key][column], value)


def assert_equal(value: object, expected: object) -> None:
    if isinstance(expected, str):
        assert value == expected
    else:
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=0.02)
