"""Prepared scans streamed from the bucket, for training."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.gcp import storage
from shared.ml.dataset import FOLDER, Split


def batches(bucket: str, split: Split) -> Iterator[pa.RecordBatch]:
    """Rows of one split (columns of shared.ml.dataset.SCHEMA), a prepared object at a time, each scan once.

    A scan lies in two manifests where its message was delivered twice. `shared.ml.dataset.tensors` makes arrays of a
    batch; one object, some 5 MB, is in memory at a time.
    """
    seen: set[tuple[str, ...]] = set()
    for blob in storage.objects(bucket, FOLDER):
        table = pq.read_table(io.BytesIO(storage.read(bucket, blob.name))).filter(pc.field("split") == split)
        columns = (map(str, table[name].to_pylist()) for name in ("label", "scan_id"))
        keys = list(zip(*columns, strict=True))
        fresh = [key not in seen for key in keys]
        seen.update(keys)
        yield from table.filter(pa.array(fresh, pa.bool_())).to_batches()
