"""What a job did, in figures and two pictures."""

import io
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from services.preprocessing.feature_files import FeatureSpec
from shared.gcp import registry, storage
from shared.ml.pca import Basis

_DRAWN_OBJECTS = 16
"""Whose scans are drawn, some 5,000: more dots hide one another."""


@dataclass(slots=True)
class Summary:
    """Counts and seconds of one job."""

    manifest: str
    """Empty for a refit."""
    scans: int = 0
    bytes_read: int = 0
    rows: int = 0
    """Loaded into the features table."""
    errors: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    """Scans that each step dealt with in this run; a run that goes on leaves out what was done before."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step took."""
        start = time.monotonic()
        yield
        self.seconds[step] = time.monotonic() - start

    def add(self, partitions: Sequence[dict[str, Any]]) -> None:
        """Count the results of partitions."""
        self.scans += sum(partition["scans"] for partition in partitions)
        self.bytes_read += sum(partition["bytes"] for partition in partitions)
        self.errors += [error for partition in partitions for error in partition["errors"]]

    def to_json(self) -> bytes:
        """The summary as indented JSON."""
        return json.dumps(asdict(self), indent=2).encode()

    def __str__(self) -> str:
        """The summary for people."""
        lines = [f"{self.scans:,} scans prepared ({self.bytes_read / 1e6:,.1f} MB read), {len(self.errors):,} not"]
        lines += [f"  {count:,} {reason}" for reason, count in Counter(e["reason"] for e in self.errors).most_common()]
        lines += [f"{self.rows:,} rows of features loaded into BigQuery"]
        lines += [f"  {step:<9}{seconds:8.1f} s{self._rate(step, seconds)}" for step, seconds in self.seconds.items()]
        return "\n".join(lines)

    def _rate(self, step: str, seconds: float) -> str:
        return f"{self.done[step] / seconds:9,.0f} images per second" if self.done.get(step) else ""


def write_report(bucket: str, summary: Summary, objects: Sequence[str], spec: FeatureSpec) -> None:
    """Write the summary and the pictures to `reports/` in the prepared bucket."""
    folder = f"reports/{summary.manifest or spec.feature_version}/"
    storage.write(bucket, f"{folder}summary.json", summary.to_json(), "application/json")
    drawn = [_read(bucket, spec.objects(name)[1]) for name in sorted(objects)[:_DRAWN_OBJECTS]]
    if sum(map(len, drawn)) > 2:
        storage.write(bucket, f"{folder}projection.png", projection(pa.concat_tables(drawn)), "image/png")
    if spec.basis:
        picture = explained_variance(registry.load_basis(spec.basis))
        storage.write(bucket, f"{folder}explained_variance.png", picture, "image/png")


def explained_variance(basis: Basis) -> bytes:
    """PNG of the share of the variance that the first axes explain together."""
    figure, axes = _figure(1)
    share = np.cumsum(basis.explained)
    axes[0].plot(np.arange(1, len(share) + 1), share)
    axes[0].axhline(0.95, linestyle=":", color="grey")
    axes[0].set(xlabel="Principal axes", ylabel="Explained variance", ylim=(0, 1))
    axes[0].set_title(f"{len(share)} axes explain {share[-1]:.1%}; fitted on {basis.scans:,} scans")
    return _png(figure)


def projection(rows: pa.Table) -> bytes:
    """PNG of CNN features on their own two principal axes, coloured by label and by source."""
    features = np.array(rows["embedding"].to_pylist())
    centred = features - features.mean(axis=0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    points = centred @ directions
    figure, axes = _figure(2)
    for axis, column in zip(axes, ("label", "source"), strict=True):
        kinds = np.array(rows[column].to_pylist())
        for kind in np.unique(kinds):
            axis.scatter(*points[kinds == kind].T, s=4, alpha=0.6, label=kind)
        axis.set(title=f"CNN features by {column}", xlabel="First axis", ylabel="Second axis")
        axis.legend(markerscale=3)
    return _png(figure)


def _read(bucket: str, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(storage.read(bucket, name)), columns=["label", "source", "embedding"])


def _figure(panels: int) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(5 * panels, 4.5), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, panels)))


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
