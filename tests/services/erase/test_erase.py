"""An erased file is in no bucket, no Parquet file and no table, and the others are still there."""

import io
import json
import sys
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.stack.provision import make_buckets
from local.stack.system import Stack
from services.erase import __main__ as door
from services.erase.erasure import erase
from shared.clock import now
from shared.gcp import bigquery, storage
from shared.labels import Label
from shared.ml.dataset import SCHEMA, TRAINING_SCANS, prepared_object
from shared.scan import file_id, quarantine_object, scan_object
from tests.support.datasets import emptied, own_dataset

BUCKETS = ("uploads", "scans", "quarantine", "prepared", "models")


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> Iterator[str]:
    """Tables that the running functions never see."""
    with own_dataset() as name:
        yield name


@pytest.fixture
def system(dataset: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Empty buckets and tables that the running functions never see."""
    emptied("scans", "predictions", "erasures")
    mark = f"erase-{uuid.uuid4().hex[:8]}"
    buckets = {name: f"{mark}-{name}" for name in BUCKETS}
    make_buckets(buckets)
    for name, bucket in buckets.items():
        monkeypatch.setenv(f"{name.upper()}_BUCKET", bucket)
    return buckets


def deposit(buckets: dict[str, str], content: bytes, name: str, *, pages: int = 1) -> str:
    """Write what the pipeline makes of one upload: objects in three buckets and rows of two tables; return its id."""
    content += buckets["uploads"].encode()  # BigQuery takes rows with the keys of another test for repeats
    own = file_id(content)
    storage.create(buckets["uploads"], f"Cancer/{name}", content, "image/png")
    uploaded = storage.stat(buckets["uploads"], f"Cancer/{name}")
    for page in range(1, pages + 1):
        scan = own if pages == 1 else f"{own}-{page:04d}"
        storage.create(buckets["scans"], scan_object(Label.CANCER, scan, "png"), content, "image/png")
        row = {"scan_id": scan, "label": "Cancer", "source": "ward", "object_name": scan, "content_sha256": own}
        row |= {"format": "PNG", "page": page - 1, "pages": pages, "width": 1, "height": 1, "size": len(content)}
        row |= {"uploaded_at": now(), "accepted_at": now(), "content_md5": uploaded.md5_hash}
        bigquery.append("scans", row | {"generation": uploaded.generation, "series_id": "s"}, key=scan)
        predicted = {"scan_id": scan, "model_version": "v", "prediction": "Cancer", "probability": 0.9}
        predicted |= {"threshold": 0.5, "uploaded_at": now(), "predicted_at": now()}
        bigquery.append("predictions", predicted, key=scan)
    storage.create(buckets["quarantine"], quarantine_object(Label.CANCER, own), b"{}", "application/json")
    return own


def prepare(buckets: dict[str, str], *scans: str) -> str:
    """A prepared object with a row a scan, and the manifest that lists them; return the object's name."""
    rows = [
        {"scan_id": scan, "label": "Cancer", "source": "ward", "split": "train", "image": bytes(196608), "preview": b""}
        for scan in scans
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"preprocessing_version": "1"} for row in rows], SCHEMA), file)
    name = prepared_object("Cancer", "m", 0)
    metadata = {TRAINING_SCANS: str(len(scans))}
    storage.write(buckets["prepared"], name, file.getvalue(), "application/vnd.apache.parquet", metadata)
    lines = b"".join(json.dumps({"scan_id": scan}).encode() + b"\n" for scan in scans)
    storage.write(buckets["prepared"], "manifests/m/scans.jsonl", lines, "application/jsonl")
    return name


def names(bucket: str) -> set[str]:
    return {blob.name for blob in storage.versions(bucket)}


def table_ids(table: str) -> set[str]:
    return {row["scan_id"] for row in bigquery.query(f"SELECT scan_id FROM {{dataset}}.{table}_raw")}


def test_an_upload_is_found_by_its_bytes_whatever_its_name_and_nothing_of_it_stays(system: dict[str, str]) -> None:
    own, other = deposit(system, b"mine", "Doe.png", pages=2), deposit(system, b"other", "Roe.png")
    deposited = prepare(system, f"{own}-0001", f"{own}-0002", other)
    done = erase(own)
    assert names(system["uploads"]) == {"Cancer/Roe.png"}
    assert not any(own in name for bucket in system.values() for name in names(bucket))
    assert own.encode() not in storage.read(system["prepared"], "manifests/m/scans.jsonl")
    assert pq.read_table(io.BytesIO(storage.read(system["prepared"], deposited)))["scan_id"].to_pylist() == [other]
    assert storage.stat(system["prepared"], deposited).metadata == {TRAINING_SCANS: "1"}
    assert table_ids("scans") == table_ids("predictions") == {other}
    assert (done.objects, done.files_rewritten, done.rows) == (4, 2, 4)


def test_a_second_run_finds_what_an_interrupted_one_left(
    system: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigQuery refuses to delete rows that were streamed a moment ago: the rows that lead to the objects stay last."""
    own = deposit(system, b"mine", "Doe.png")

    def refused(table: str, condition: str, **_: object) -> None:
        raise bigquery.BigQueryError("would affect rows in the streaming buffer")

    with monkeypatch.context() as young:
        young.setattr(bigquery, "delete", refused)
        with pytest.raises(bigquery.BigQueryError):
            erase(own)
    assert table_ids("scans") == {own}
    assert erase(own).rows == 2
    assert table_ids("scans") == set()


def test_a_dry_run_counts_and_erases_nothing(system: dict[str, str]) -> None:
    own = deposit(system, b"mine", "Doe.png")
    assert (erase(own, dry_run=True).objects, table_ids("scans")) == (3, {own})
    assert names(system["uploads"]) == {"Cancer/Doe.png"}


def test_releases_that_were_tested_on_it_or_learnt_from_it_are_named(system: dict[str, str]) -> None:
    own = deposit(system, b"mine", "Doe.png")
    storage.create(system["models"], "releases/v1/test_scans.txt", f"{own}\n".encode(), "text/plain")
    storage.create(system["models"], "releases/v2/test_scans.txt", b"0\n", "text/plain")
    learnt = f"scan_id,label\n{own},1\n".encode()
    for name in ("v1/report/split.csv", "v3/learnt_from.csv"):
        storage.create(system["models"], f"releases/{name}", learnt, "text/csv")
    assert erase(own).releases == ["v1", "v3"]


def test_the_command_records_what_it_did(
    system: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = deposit(system, b"mine", "Doe.png")
    monkeypatch.setattr(sys, "argv", ["erase", own, "--reason", "withdrawn consent"])
    assert door.main() == 0
    (row,) = bigquery.query("SELECT * FROM {dataset}.erasures")
    assert (row["file_id"], row["reason"], row["objects"], row["rows"]) == (own, "withdrawn consent", 3, 2)
    assert "Doe" not in capsys.readouterr().out + str(row)


def test_a_wrong_id_is_refused_before_anything_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["erase", "", "--reason", "x"])
    with pytest.raises(SystemExit, match="2"):
        door.main()
