"""The whole job over the running stack: what it writes, what it says of bad scans, and that it can be run again."""

import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from local.samples import encode
from local.stack.terraform_config import schema
from services.preprocessing import partitions as cutting
from services.preprocessing.feature_files import CNN_FEATURES, ERRORS, FEATURES
from services.preprocessing.job import preprocess
from services.preprocessing.partitions import read_manifest
from services.preprocessing.report import Summary
from shared import config
from shared.events import ScanAccepted
from shared.gcp import bigquery, registry, storage
from shared.gcp.prepared import batches
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml import dataset, manifests
from shared.ml.features import compute_features, feature_version
from tests.services.preprocessing.scans import accepted, pictures, write_manifest
from tests.support.events import stored_scan

GOOD = 120
"""Enough for a basis."""
_PARTITION_BYTES = 8 << 20
"""So that they are several partitions."""


@pytest.fixture(scope="module")
def good(stack) -> list[ScanAccepted]:
    """Scans of both labels that lie where their events say."""
    labels = ("Cancer", "Non-Cancer")
    return [accepted(config.scans_bucket(), picture, labels[i % 2]) for i, picture in enumerate(pictures(GOOD))]


@pytest.fixture(scope="module")
def bad(stack) -> dict[str, ScanAccepted]:
    """Scans that cannot be prepared, by the reason they must get."""
    one, other = pictures(2, seed=77)
    vanished = replace(accepted(config.scans_bucket(), one, "Cancer"), name="Cancer/gone.png", scan_id="a" * 64)
    changed = replace(accepted(config.scans_bucket(), other, "Cancer"), content_sha256="0" * 64)
    return {
        "vanished since the manifest": vanished,
        "changed since the manifest": changed,
        "truncated": stored_scan(config.scans_bucket(), encode(one, "PNG")[:-900], "Cancer"),
        "not an image": stored_scan(config.scans_bucket(), b"a letter, not a scan\n" * 9, "Non-Cancer"),
    }


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_PARTITION_BYTES", _PARTITION_BYTES)


@pytest.fixture(scope="module")
def job(spark: SparkSession, good: list, bad: dict) -> Summary:
    """The job, run on all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_PARTITION_BYTES", _PARTITION_BYTES)
        return preprocess(spark, write_manifest(config.prepared_bucket(), [*good, *bad.values()]))


def test_every_scan_is_prepared_or_an_error(job: Summary, bad: dict) -> None:
    assert job.scans == GOOD
    assert {error["reason"]: error["scan_id"] for error in job.errors} == {
        reason: event.scan_id for reason, event in bad.items()
    }


def test_errors_are_rows_with_their_reasons(job: Summary, bad: dict) -> None:
    rows = bigquery.query("SELECT * FROM {dataset}.preprocessing_errors WHERE manifest = @id", id=job.manifest)
    assert {row["reason"]: row["scan_id"] for row in rows} == {why: event.scan_id for why, event in bad.items()}


def test_spark_prepares_exactly_what_serving_prepares(job: Summary, good: list) -> None:
    rows = {row["scan_id"]: row for row in prepared_rows(job.manifest)}
    assert len(rows) == GOOD
    for event in good[::13]:
        row = rows[event.scan_id]
        expected = prepare(decode(storage.read(event.bucket, event.name)).pages[0])
        assert (np.frombuffer(row["image"], np.float32).reshape(128, 128, 3) == expected).all()
        assert decode(row["preview"]).pages[0].shape == (128, 128)
        assert (row["label"], row["source"]) == (event.label, "test")


def test_objects_lie_under_their_label(job: Summary) -> None:
    for name in prepared_names(job.manifest):
        labels = set(pq.read_table(io.BytesIO(storage.read(config.prepared_bucket(), name)))["label"].to_pylist())
        assert labels == {name.split("label=")[1].split("/")[0]}


def test_features_have_one_row_a_scan_and_equal_the_online_ones(job: Summary, good: list) -> None:
    basis, model = registry.load_basis(registry.read_pointer(registry.BASES).version), registry.current_model()
    version = feature_version(model.card.version, basis.version)
    sql = "SELECT * FROM {dataset}.features WHERE feature_version = @version"
    rows = {row["scan_id"]: row for row in bigquery.query(sql, version=version)}
    assert set(rows) >= {event.scan_id for event in good}
    for event in good[::29]:
        tensor = prepare(decode(storage.read(event.bucket, event.name)).pages[0])
        online = compute_features(tensor, model.predict(tensor).embedding, basis.project(tensor))
        for name, value in online.items():
            np.testing.assert_allclose(rows[event.scan_id][name], value, rtol=1e-5, atol=1e-4, err_msg=name)
        assert len(online["principal_components"]) == len(basis.axes) > 10


def test_cnn_features_tell_pictures_apart(job: Summary, good: list) -> None:
    rows = bigquery.query("SELECT scan_id, embedding FROM {dataset}.cnn_features")
    embeddings = {row["scan_id"]: tuple(row["embedding"]) for row in rows}
    assert set(embeddings) >= {event.scan_id for event in good}
    assert {len(embedding) for embedding in embeddings.values()} == {1280}
    assert len(set(embeddings.values())) > 0.9 * GOOD


def test_basis_standardises_the_training_split(job: Summary) -> None:
    basis = registry.load_basis(registry.read_pointer(registry.BASES).version)
    rows = [row for row in prepared_rows(job.manifest) if row["split"] == "train"]
    scans = np.stack([np.frombuffer(row["image"], np.float32) for row in rows])
    assert basis.scans == len(rows)
    np.testing.assert_allclose(basis.mean, scans.mean(axis=0, dtype=float), atol=1e-6)
    standardised = basis.standardise(scans)
    np.testing.assert_allclose(standardised.mean(axis=0, dtype=float), 0, atol=1e-4)
    assert 0.5 < basis.explained.sum() <= 1


def test_training_reads_each_scan_once_from_the_bucket(job: Summary, good: list) -> None:
    read = Counter(id for batch in batches(config.prepared_bucket(), "train") for id in batch["scan_id"].to_pylist())
    wanted = {event.scan_id for event in good if dataset.split_of(event.scan_id) == "train"}
    assert wanted <= set(read)
    assert set(read.values()) == {1}


def test_a_second_run_changes_nothing(spark: SparkSession, job: Summary, small_partitions: None) -> None:
    names = prepared_names(job.manifest)
    assert len(names) > 2  # labels times partitions
    before = [storage.read(config.prepared_bucket(), name) for name in names]
    again = preprocess(spark, job.manifest)
    assert again.done == {"prepare": 0, "features": 0}
    assert (again.scans, again.errors) == (job.scans, job.errors)
    assert [storage.read(config.prepared_bucket(), name) for name in names] == before
    counted = bigquery.query("SELECT scan_id, COUNT(*) AS n FROM {dataset}.features GROUP BY scan_id, feature_version")
    assert {row["n"] for row in counted} == {1}


def test_success_says_what_the_report_says(job: Summary) -> None:
    success = json.loads(storage.read(config.prepared_bucket(), manifests.success_object(job.manifest)))
    assert success["scans"] == GOOD
    pictures = {blob.name for blob in storage.objects(config.prepared_bucket(), f"reports/{job.manifest}/")}
    assert {name.rpartition("/")[2] for name in pictures} == {
        "summary.json",
        "projection.png",
        "explained_variance.png",
    }


def test_partitions_cover_a_manifest_and_are_cut_by_bytes(stack) -> None:
    event = stored_scan(config.scans_bucket(), b"never read", "Cancer")
    sizes = [60 << 20, *[1000] * 640, 60 << 20]
    events = [replace(event, scan_id=f"{number:064x}", size=size) for number, size in enumerate(sizes)]
    manifest = read_manifest(config.prepared_bucket(), write_manifest(config.prepared_bucket(), events))
    partitions = [manifest.partition(number) for number in range(len(manifest.ranges))]
    assert [scan for partition in partitions for scan in partition] == events
    assert max(weight(partition) for partition in partitions) < 130 << 20
    assert max(len(partition) for partition in partitions) > 200
    assert read_manifest(config.prepared_bucket(), manifest.id) == manifest


@pytest.mark.parametrize(
    ("columns", "table"),
    [(FEATURES, "features"), (CNN_FEATURES, "cnn_features"), (ERRORS, "preprocessing_errors")],
)
def test_columns_are_those_of_the_table(columns: pa.Schema, table: str) -> None:
    kinds = {"STRING": pa.string(), "FLOAT": pa.float64(), "TIMESTAMP": pa.timestamp("us", tz="UTC")}
    for column in schema(table):
        kind = columns.field(column["name"]).type
        assert (kind.value_type if column["mode"] == "REPEATED" else kind) == kinds[column["type"]]
    assert [column["name"] for column in schema(table)] == columns.names


def weight(partition: list[ScanAccepted]) -> int:
    """Bytes of a partition as stored and as prepared."""
    return sum(scan.size + dataset.IMAGE_BYTES for scan in partition)


def prepared_names(manifest: str) -> list[str]:
    """Names of a manifest's prepared objects."""
    return [b.name for b in storage.objects(config.prepared_bucket(), dataset.FOLDER) if manifest in b.name]


def prepared_rows(manifest: str) -> list[dict]:
    """Rows of a manifest's prepared objects."""
    contents = [storage.read(config.prepared_bucket(), name) for name in prepared_names(manifest)]
    return [row for content in contents for row in pq.read_table(io.BytesIO(content)).to_pylist()]
