"""The job step by step: prepare, fit, describe, load, report. Runs in the driver.

Every step writes objects whose names follow from the manifest, and leaves those alone that are there: a job that was
killed goes on where it stopped.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from services.preprocessing.describe import ERRORS, Recipe, describe_object
from services.preprocessing.fit import fit
from services.preprocessing.parts import Manifest, on_executors, parquet, read_manifest
from services.preprocessing.prepare import prepare_part
from services.preprocessing.report import Summary, write_report
from shared import config
from shared.gcp import bases, bigquery, releases, storage
from shared.labels import Label
from shared.ml import dataset
from shared.ml.manifests import partitions_folder, success_object

BACKBONE = Path(__file__).with_name("efficientnet-lite0.tflite")


def preprocess(spark: SparkSession, manifest_id: str) -> Summary:
    """Do all that a manifest asks for, and last say so in its `_SUCCESS`."""
    bucket = config.prepared_bucket()
    summary = Summary(manifest_id)
    with summary.timed("prepare"):
        earlier, now = prepare_parts(spark, read_manifest(bucket, manifest_id))
    parts = earlier + now
    summary.add(parts)
    summary.done["prepare"] = sum(part["scans"] for part in now)
    objects = sorted(name for part in parts for name in part["objects"])
    with summary.timed("fit"):
        recipe = recipe_for(bases.current_version() or fit_all(spark, bucket, instead=False))
    describe_and_load(spark, bucket, objects, recipe, summary)
    _load_errors(bucket, summary)
    write_report(bucket, summary, objects, recipe)
    storage.write(bucket, success_object(manifest_id), summary.to_json(), "application/json")
    return summary


def refit(spark: SparkSession) -> Summary:
    """Fit the basis anew on all that was ever prepared, and describe all of it by the new one."""
    bucket = config.prepared_bucket()
    summary = Summary("")
    with summary.timed("fit"):
        recipe = recipe_for(fit_all(spark, bucket, instead=True))
    objects = _prepared_objects(bucket)
    describe_and_load(spark, bucket, objects, recipe, summary)
    write_report(bucket, summary, objects, recipe)
    return summary


def prepare_parts(spark: SparkSession, manifest: Manifest) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What became of each part of a manifest: of those that were done before, and of those that now are."""
    records = storage.objects(manifest.bucket, partitions_folder(manifest.id))
    done = {part["part"]: part for part in (json.loads(storage.read(manifest.bucket, blob.name)) for blob in records)}
    todo = [number for number in range(len(manifest.ranges)) if number not in done]
    return list(done.values()), on_executors(spark, partial(prepare_part, manifest), todo)


def fit_all(spark: SparkSession, bucket: str, *, instead: bool) -> str | None:
    """Fit a basis on all prepared training scans; answers the current version, None where the scans are too few.

    Not `instead` of a current one: of several first jobs at a time one fits for all, not each axes of its own.
    """
    basis = fit(spark, bucket, _prepared_objects(bucket))
    if basis is None:
        return None
    bases.publish(basis, instead=instead)
    return bases.current_version()


def recipe_for(basis: str | None) -> Recipe:
    """The current release and the configured backbone, beside a basis."""
    return Recipe(releases.current().card.version, basis, config.backbone() or str(BACKBONE))


def describe_and_load(
    spark: SparkSession, bucket: str, objects: Sequence[str], recipe: Recipe, summary: Summary
) -> None:
    """Features of the scans in these prepared objects as Parquet, then as rows of BigQuery."""
    with summary.timed("describe"):
        done = _described(bucket, recipe, summary.manifest)
        todo = [name for name in objects if not done.issuperset(recipe.objects(name))]
        summary.done["describe"] = sum(on_executors(spark, partial(_describe, bucket, recipe, todo), range(len(todo))))
    with summary.timed("load"):
        features, cnn_features = zip(*map(recipe.objects, objects), strict=True)
        summary.rows = bigquery.load("features", [f"gs://{bucket}/{name}" for name in features])
        bigquery.load("cnn_features", [f"gs://{bucket}/{name}" for name in cnn_features])


def _describe(bucket: str, recipe: Recipe, objects: Sequence[str], number: int) -> int:
    return describe_object(bucket, objects[number], recipe)


def _described(bucket: str, recipe: Recipe, manifest_id: str) -> set[str]:
    prefixes = [f"{folder}label={label}/{manifest_id}" for folder in recipe.folders for label in Label]
    return {blob.name for prefix in prefixes for blob in storage.objects(bucket, prefix)}


def _prepared_objects(bucket: str) -> list[str]:
    return [blob.name for blob in storage.objects(bucket, dataset.FOLDER)]


def _load_errors(bucket: str, summary: Summary) -> None:
    if not summary.errors:
        return
    now = datetime.now(UTC)
    rows = [error | {"manifest": summary.manifest, "recorded_at": now} for error in summary.errors]
    name = f"errors/{summary.manifest}.parquet"
    storage.write(bucket, name, *parquet(rows, ERRORS))
    bigquery.load("preprocessing_errors", [f"gs://{bucket}/{name}"])
