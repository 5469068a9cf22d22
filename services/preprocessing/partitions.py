"""A manifest in partitions: which scans go together, and one executor task for each partition."""

import gc
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from shared.events import ScanAccepted
from shared.gcp import storage
from shared.ml import manifests
from shared.ml.dataset import IMAGE_BYTES

_PARTITION_BYTES = 64 << 20
"""Of scans as stored and as prepared together: some 300 small scans, or one as large as they come.

A Spark task waits some 70 ms beside its work, so partitions should not be smaller; memory is why they are not larger.
"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest and its partitions as byte ranges, small enough to travel with every task."""

    bucket: str
    id: str
    ranges: tuple[tuple[int, int], ...]
    scans: int

    def partition(self, number: int) -> list[ScanAccepted]:
        """Return the scans of one partition, in the manifest's order."""
        start, end = self.ranges[number]
        return manifests.parse(storage.read_range(self.bucket, manifests.manifest_object(self.id), start, end))


def read_manifest(bucket: str, manifest: str) -> Manifest:
    """Read a manifest and cut it into partitions of about equal bytes. The same manifest is always cut alike."""
    content = storage.read(bucket, manifests.manifest_object(manifest))
    lines = content.splitlines(keepends=True)
    weights = [IMAGE_BYTES + ScanAccepted.from_json(line).size for line in lines]
    return Manifest(bucket, manifest, tuple(_ranges([len(line) for line in lines], weights)), len(lines))


def _ranges(lengths: Sequence[int], weights: Sequence[int]) -> Iterator[tuple[int, int]]:
    share = sum(weights) / max(-(-sum(weights) // _PARTITION_BYTES), 1)
    start = end = weighed = 0
    due = share
    for length, weight in zip(lengths, weights, strict=True):
        if weighed + weight / 2 > due and end > start:
            yield start, end
            start = end
            due += share
        end += length
        weighed += weight
    if end > start:
        yield start, end


def on_executors[T](spark: SparkSession, work: Callable[[int], T], numbers: Sequence[int]) -> list[T]:
    """Do `work` for each number, a task each; return the results (as JSON knows them), in no particular order."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        gc.freeze()  # PySpark collects garbage after each task, and should not look through every module again
        cv2.setNumThreads(1)  # a task has one core
        for batch in batches:
            for index in map(int, batch.column(0).to_numpy()):
                yield pa.RecordBatch.from_pydict({"result": [json.dumps(work(numbers[index]))]})

    if not numbers:
        return []
    tasks = spark.range(0, len(numbers), 1, len(numbers)).mapInArrow(run, "result string")
    return [json.loads(row.result) for row in tasks.collect()]


def parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> tuple[bytes, str]:
    """Rows as a Parquet file, and its content type."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd", compression_level=1)
    return file.getvalue(), "application/vnd.apache.parquet"
