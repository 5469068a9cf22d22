"""Standardisation and principal axes, fitted on the training split without ever gathering it."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import RDD
from pyspark.sql import SparkSession

from shared import config
from shared.gcp import storage
from shared.imaging.preprocessing import PREPROCESSING_VERSION, SIDE
from shared.ml.dataset import tensors
from shared.ml.features import FEATURE_VERSION, flatten
from shared.ml.pca import Basis, Moments, fold

Product = Callable[[np.ndarray], np.ndarray]

_ENOUGH = 30_000
"""Training scans that a basis is fitted on: more would not move its axes."""

_EXPLAINED = 0.95
_MOST_AXES = 256
_BLOCK, _PASSES = 128, 10
"""Vectors of a pass, and passes: principal angles to the exact axes stay under 1e-3 (test_fit.py)."""
_PIXELS = SIDE * SIDE
_TASKS = 16
"""Each returns 8 MB per pass, so there are few of them, whatever the number of scans."""


def fit(spark: SparkSession, bucket: str, training_scans: Mapping[str, int]) -> Basis | None:
    """Return the basis of the training scans in prepared objects (name -> how many it has), or None if too few.

    Objects are taken in the order of their names' hashes until they hold 30,000 training scans. The driver sees two
    things only: every pixel's moments, from one pass over the scans, and the product of their covariance with a block
    of vectors, a pass each.
    """
    if sum(training_scans.values()) < config.fewest_basis_scans():
        return None
    chosen = list(_enough(training_scans))
    slices = min(_TASKS, spark.sparkContext.defaultParallelism, len(chosen))
    objects = spark.sparkContext.parallelize(chosen, slices)
    moments = objects.mapPartitions(_moments_of(bucket)).treeAggregate(None, _merged, _merged)
    if moments is None:
        return None
    axes, variances = principal_axes(_covariance(objects, bucket, moments), moments.count)
    explained = variances / moments.varies.sum()
    wanted = min(int(np.searchsorted(np.cumsum(explained), _EXPLAINED)) + 1, len(axes))
    return Basis(
        version=_digest("".join([FEATURE_VERSION, PREPROCESSING_VERSION, *chosen]))[:12],
        mean=moments.mean.astype(np.float32),
        std=moments.std.astype(np.float32),
        axes=axes[:wanted],
        explained=explained[:wanted].astype(np.float32),
        scans=moments.count,
        preprocessing_version=PREPROCESSING_VERSION,
    )


def _enough(training_scans: Mapping[str, int]) -> Iterator[str]:
    total = 0
    for name in sorted((name for name, count in training_scans.items() if count), key=_digest):
        if total >= _ENOUGH:
            return
        total += training_scans[name]
        yield name


def principal_axes(covariance: Product, scans: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors float32 (k, 16384), orthonormal rows, and eigenvalues (k,) of a covariance, largest first.

    The covariance of so many scans is known by its products with blocks (16384, m) alone: Rayleigh and Ritz's method
    over the randomised block Krylov space of Musco and Musco (2015, https://arxiv.org/abs/1504.05477). k is 256, or a
    third of the scans where they are few: later axes would be noise.
    """
    width = min(_BLOCK, scans // _PASSES)  # no more columns than there are scans: others would be rounding errors
    block = np.random.default_rng(0).standard_normal((_PIXELS, width), dtype=np.float32)
    space = np.empty((_PIXELS, 0), np.float32)
    products = []
    for _ in range(_PASSES):
        block = _orthonormal(block, space)
        space = np.hstack([space, block])
        block = covariance(block)
        products.append(block)
    inner = space.T @ np.hstack(products)
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    wanted = min(_MOST_AXES, scans // 3)
    return _signed((space @ vectors[:, : -wanted - 1 : -1]).T), values[: -wanted - 1 : -1]


def _signed(axes: np.ndarray) -> np.ndarray:
    """Axes with their largest entry positive: their signs are arbitrary, and rounding would decide them."""
    largest = np.abs(axes).argmax(axis=1)
    return np.ascontiguousarray(axes * np.sign(axes[np.arange(len(axes)), largest])[:, np.newaxis])


def _orthonormal(block: np.ndarray, space: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span what the block adds to the space; projected out twice, which is enough."""
    for _ in range(2):
        block = np.linalg.qr(block - space @ (space.T @ block))[0]
    return block


def _moments_of(bucket: str) -> Callable[[Iterable[str]], Iterator[Moments]]:
    def moments(names: Iterable[str]) -> Iterator[Moments]:
        for name in names:
            vectors = _training_vectors(bucket, name)
            if len(vectors):
                yield Moments.of(vectors)

    return moments


def _merged(one: Moments | None, other: Moments | None) -> Moments | None:
    return one + other if one and other else one or other


def _covariance(objects: RDD[str], bucket: str, moments: Moments) -> Product:
    """Product of the standardised training scans' covariance with a block: a pass over the prepared objects."""
    mean = fold(moments.mean).astype(np.float32)
    std = moments.std[::3].astype(np.float32)  # a pixel's channels are equal, and so are their standard deviations

    def product(block: np.ndarray) -> np.ndarray:
        shared = objects.context.broadcast((mean, std, np.ascontiguousarray(block, np.float32)))

        def partial(names: Iterable[str]) -> Iterator[np.ndarray]:
            mean, std, block = shared.value
            total = np.zeros_like(block)
            for name in names:
                vectors = (fold(_training_vectors(bucket, name)) - mean) / std
                total += vectors.T @ (vectors @ block)
            yield total

        result = objects.mapPartitions(partial).treeReduce(np.add) / np.float32(moments.count)
        shared.destroy()
        return result

    return product


def _training_vectors(bucket: str, name: str) -> np.ndarray:
    """The training scans of a prepared object as vectors float32 (n, 49152)."""
    table = pq.read_table(io.BytesIO(storage.read(bucket, name)), columns=["split", "image"])
    return flatten(tensors(table.filter(pc.field("split") == "train")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
