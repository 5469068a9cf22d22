"""The job step by step: prepare, fit, compute features, load, report. Runs in the driver.

Every step writes objects whose names follow from the manifest, and leaves those alone that exist: a later run resumes
where a killed one stopped.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from services.preprocessing.feature_files import ERRORS, FeatureSpec, write_features_of
from services.preprocessing.fit import fit
from services.preprocessing.partitions import Manifest, on_executors, parquet, read_manifest
from services.preprocessing.prepare import prepare_partition
from services.preprocessing.report import Summary, write_report
from shared import config
from shared.gcp import bigquery, registry, storage
from shared.gcp.registry import BASES, BASIS_FILE, RELEASES, PointerMoved
from shared.imaging.preprocessing import PREPROCESSING_VERSION
from shared.labels import Label
from shared.ml import dataset, manifests


def preprocess(spark: SparkSession, manifest_id: str) -> Summary:
    """Do all that a manifest asks for, and last say so in its `_SUCCESS`."""
    bucket = config.prepared_bucket()
    summary = Summary(manifest_id)
    with summary.timed("prepare"):
        earlier, now = prepare_partitions(spark, read_manifest(bucket, manifest_id))
    partitions = earlier + now
    summary.add(partitions)
    summary.done["prepare"] = sum(partition["scans"] for partition in now)
    objects = sorted(name for partition in partitions for name in partition["objects"])
    with summary.timed("fit"):
        spec = feature_spec(usable_basis() or fit_all(spark, bucket))
    compute_and_load(spark, bucket, objects, spec, summary)
    _load_errors(bucket, summary)
    write_report(bucket, summary, objects, spec)
    storage.write(bucket, manifests.success_object(manifest_id), summary.to_json(), "application/json")
    return summary


def prepare_again(spark: SparkSession) -> list[Summary]:
    """Preprocess every finished manifest again: a new version of preprocessing has objects of its own."""
    blobs = storage.objects(config.prepared_bucket(), manifests.FOLDER)
    finished = [blob.name.split("/")[1] for blob in blobs if blob.name.endswith("/_SUCCESS")]
    return [preprocess(spark, manifest) for manifest in finished]


def refit(spark: SparkSession) -> Summary:
    """Fit the basis again on all prepared scans, and compute the features of all of them with the new one.

    Raises PointerMoved if another basis became current meanwhile.
    """
    bucket = config.prepared_bucket()
    summary = Summary("")
    with summary.timed("fit"):
        spec = feature_spec(fit_all(spark, bucket, replace=True))
    objects = list(_training_scans(bucket))
    compute_and_load(spark, bucket, objects, spec, summary)
    write_report(bucket, summary, objects, spec)
    return summary


def prepare_partitions(spark: SparkSession, manifest: Manifest) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the results of partitions finished earlier and of those run now."""
    records = storage.objects(manifest.bucket, dataset.partitions_folder(manifest.id))
    results = (json.loads(storage.read(manifest.bucket, blob.name)) for blob in records)
    done = {result["partition"]: result for result in results}
    todo = [number for number in range(len(manifest.ranges)) if number not in done]
    return list(done.values()), on_executors(spark, partial(prepare_partition, manifest), todo)


def usable_basis() -> str | None:
    """Return the current basis's version if it was fitted on scans prepared as they are now, else None."""
    version = registry.read_pointer(BASES).version
    usable = version and registry.load_basis(version).preprocessing_version == PREPROCESSING_VERSION
    return version if usable else None


def fit_all(spark: SparkSession, bucket: str, *, replace: bool = False) -> str | None:
    """Fit a basis on all prepared training scans and make it current. Return its version; None if scans are too few.

    Of several first jobs at a time one fits for all: if another's basis became current meanwhile, that one's version is
    returned, unless ours is to `replace` the current one; then PointerMoved is raised.
    """
    seen = registry.read_pointer(BASES)
    basis = fit(spark, bucket, _training_scans(bucket))
    if basis is None:
        return None
    registry.add_version(BASES, basis.version, {BASIS_FILE: basis.to_bytes()})
    try:
        registry.move_pointer(BASES, basis.version, seen)
    except PointerMoved:
        if replace:
            raise
    return registry.read_pointer(BASES).version


def feature_spec(basis: str | None) -> FeatureSpec:
    """Return the spec of the current release beside a basis. Raises LookupError before the first release."""
    model = registry.read_pointer(RELEASES).version
    if model is None:
        raise LookupError("The models bucket has no current release: promote one.")
    return FeatureSpec(model, basis)


def compute_and_load(
    spark: SparkSession, bucket: str, objects: Sequence[str], spec: FeatureSpec, summary: Summary
) -> None:
    """Write the features of the scans in these prepared objects as Parquet, then load them as rows of BigQuery."""
    with summary.timed("features"):
        done = _computed(bucket, spec, summary.manifest)
        todo = [name for name in objects if not done.issuperset(spec.objects(name))]
        counts = on_executors(spark, partial(_compute, bucket, spec, todo), range(len(todo)))
        summary.done["features"] = sum(counts)
    with summary.timed("load"):
        written = [spec.objects(name) for name in objects]
        summary.rows = bigquery.load("features", [f"gs://{bucket}/{features}" for features, _ in written])
        bigquery.load("cnn_features", [f"gs://{bucket}/{cnn_features}" for _, cnn_features in written])


def _compute(bucket: str, spec: FeatureSpec, objects: Sequence[str], number: int) -> int:
    return write_features_of(bucket, objects[number], spec)


def _computed(bucket: str, spec: FeatureSpec, manifest_id: str) -> set[str]:
    prefixes = [f"{folder}label={label}/{manifest_id}" for folder in spec.folders for label in Label]
    return {blob.name for prefix in prefixes for blob in storage.objects(bucket, prefix)}


def _training_scans(bucket: str) -> dict[str, int]:
    """Prepared objects by name, with how many training scans each holds."""
    return {blob.name: int(blob.metadata[dataset.TRAINING_SCANS]) for blob in storage.objects(bucket, dataset.FOLDER)}


def _load_errors(bucket: str, summary: Summary) -> None:
    if not summary.errors:
        return
    now = datetime.now(UTC)
    rows = [error | {"manifest": summary.manifest, "recorded_at": now} for error in summary.errors]
    name = f"errors/{summary.manifest}.parquet"
    storage.write(bucket, name, *parquet(rows, ERRORS))
    bigquery.load("preprocessing_errors", [f"gs://{bucket}/{name}"])
