"""An erased file is in no bucket, no Parquet file and no table, and the others are still there."""

import io
import json
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.stack.provision import make_buckets
from local.stack.system import Stack
from local.stack.terraform_config import declared, schema
from services.erase import __main__ as door
from services.erase.erasure import erase
from shared.clock import now
from shared.gcp import bigquery, storage
from shared.labels import Label
from shared.ml.dataset import SCHEMA, TRAINING_SCANS, partition_object, prepared_object
from shared.ml.manifests import manifest_object, success_object
from shared.scan import file_id, quarantine_object, scan_object, unread_file_id
from tests.support.datasets import emptied, own_dataset
from tests.support.versioned_storage import VersionedStorage, versioned_storage

BUCKETS = ("uploads", "scans", "quarantine", "prepared", "models")


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> Iterator[str]:
    """Tables that the running functions never see."""
    with own_dataset() as name:
        yield name


@pytest.fixture
def system(dataset: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Empty buckets and tables that the running functions never see."""
    emptied("scans", "predictions", "rejections", "erasures")
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
    storage.write(buckets["prepared"], manifest_object("m"), lines, "application/jsonl")
    return name


def naming(table: str, scan: str, **values: object) -> dict[str, object]:
    """A row of a table with a scan's id in every column that can name a scan or a file."""
    plain = {"STRING": "a", "INTEGER": 1, "FLOAT": 0.5, "BOOLEAN": True, "TIMESTAMP": now()}
    row: dict[str, object] = {}
    for column in schema(table):
        name, kind = column["name"], column["type"]
        named = kind == "STRING" and ("scan" in name or name == "file_id")
        value = scan if named else plain[kind]
        row[name] = [value] if column["mode"] == "REPEATED" else value
    return row | values


def rows(table: str) -> list[str]:
    return [str(dict(row)) for row in bigquery.query(f"SELECT * FROM {{dataset}}.{table}_raw")]


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


def test_no_table_names_it_but_the_record(system: dict[str, str]) -> None:
    """Lists of scans too, as in a drift check, and answers of its series, whatever slices they name."""
    own, other = deposit(system, b"mine", "Doe.png"), deposit(system, b"other", "Roe.png")
    emptied("scans", "predictions")
    said = [
        (table, naming(table, scan, series_id=f"of {scan}")) for table in declared()["tables"] for scan in (own, other)
    ]
    said.append(("series", naming("series", other, series_id=f"of {own}", revision="later")))
    with ThreadPoolExecutor(len(said)) as pool:
        list(pool.map(lambda row: bigquery.append(*row, key=uuid.uuid4().hex), said))
    erase(own)
    for table in declared()["tables"]:
        left = rows(table)
        assert any(other in row for row in left) == (other in str(naming(table, other))), table
        assert table == "erasures" or not any(own in row for row in left), table


def test_a_second_erasure_keeps_the_record_of_the_first(
    system: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigQuery would also refuse to delete a row that is an hour old, and the command would never end well."""
    own = deposit(system, b"mine", "Doe.png")
    for reason in ("withdrawn consent", "came again by mail"):
        monkeypatch.setattr(sys, "argv", ["erase", own, "--reason", reason])
        assert door.main() == 0
    recorded = {(row["reason"], row["objects"]) for row in bigquery.query("SELECT * FROM {dataset}.erasures")}
    assert recorded == {("withdrawn consent", 3), ("came again by mail", 0)}


def test_an_upload_that_nobody_recorded_is_found_by_its_bytes(system: dict[str, str]) -> None:
    """Its message may be waiting, or be a dead-letter message."""
    deposit(system, b"other", "Roe.png")
    storage.create(system["uploads"], "Cancer/Doe.png", b"mine alone", "image/png")
    assert erase(file_id(b"mine alone")).objects == 1
    assert names(system["uploads"]) == {"Cancer/Roe.png"}


def test_another_upload_of_the_same_microsecond_stays(system: dict[str, str]) -> None:
    """A generation is a time stamp, and no object's alone."""
    own = deposit(system, b"mine", "Doe.png")
    deposit(system, b"other", "Roe.png")
    same = storage.stat(system["uploads"], "Cancer/Roe.png").generation
    bigquery.append("scans", naming("scans", own, generation=same), key=uuid.uuid4().hex)
    erase(own)
    assert names(system["uploads"]) == {"Cancer/Roe.png"}


def test_a_file_that_was_too_large_to_be_read_is_found_by_its_place(system: dict[str, str]) -> None:
    for name in ("Doe", "Roe"):
        storage.create(system["uploads"], f"Cancer/{name}.png", name.encode(), "image/png")
    generation = storage.stat(system["uploads"], "Cancer/Doe.png").generation
    own = unread_file_id(system["uploads"], "Cancer/Doe.png", generation)
    bigquery.append("rejections", naming("rejections", own, generation=generation, content_md5=None), key=own)
    assert erase(own).objects == 1
    assert names(system["uploads"]) == {"Cancer/Roe.png"}


def test_results_of_a_batch_that_name_it_are_read_as_before_and_partitions_are_cut_anew(system: dict[str, str]) -> None:
    """A manifest without a line is cut into other byte ranges: what was done of the old ones says nothing of these."""
    own, other = deposit(system, b"mine", "Doe.png"), deposit(system, b"other", "Roe.png")
    prepare(system, own, other)
    result = {"partition": 0, "errors": [{"scan_id": scan, "reason": "vanished"} for scan in (own, other)]}
    done = {"manifest": "m", "scans": 2, "errors": result["errors"]}
    bucket, kept = system["prepared"], partition_object("of another manifest", 0)
    storage.write(bucket, partition_object("m", 0), json.dumps(result).encode(), "application/json")
    storage.write(bucket, kept, json.dumps(result).encode(), "application/json")
    storage.write(bucket, success_object("m"), json.dumps(done, indent=2).encode(), "application/json")
    erase(own)
    assert partition_object("m", 0) not in names(bucket)
    for name in (kept, success_object("m")):
        assert [error["scan_id"] for error in json.loads(storage.read(bucket, name))["errors"]] == [other]


def test_an_object_that_names_it_in_an_unknown_way_is_told_and_not_passed_over(system: dict[str, str]) -> None:
    own = deposit(system, b"mine", "Doe.png")
    storage.write(system["prepared"], "reports/m/new.json", json.dumps({"seen": [own]}).encode(), "application/json")
    with pytest.raises(storage.StorageError, match="unknown way"):
        erase(own)


@pytest.fixture
def versions(system: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[VersionedStorage]:
    """Buckets that keep every version, as Terraform makes them."""
    with versioned_storage() as server, monkeypatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        storage.client.cache_clear()
        yield server
    storage.client.cache_clear()


def test_no_version_of_an_object_holds_it(system: dict[str, str], versions: VersionedStorage) -> None:
    """Overwritten, deleted, and left by a run that stopped between writing a file again and erasing what it was."""
    own, other = deposit(system, b"mine", "Doe.png"), deposit(system, b"other", "Roe.png")
    bytes_of = {name: storage.read(system["uploads"], f"Cancer/{name}.png") for name in ("Doe", "Roe")}
    storage.write(system["uploads"], "Cancer/Doe.png", b"another picture", "image/png")
    storage.client().bucket(system["scans"]).delete_blob(scan_object(Label.CANCER, own, "png"))
    storage.write(system["uploads"], "Cancer/again.png", bytes_of["Doe"], "image/png")
    deposited = prepare(system, own, other)
    first = storage.read(system["prepared"], deposited)
    prepare(system, other)
    storage.write(system["prepared"], prepared_object("Cancer", "n", 0), first, "application/vnd.apache.parquet")
    done = erase(own)
    uploads = versions.contents(system["uploads"])
    assert sorted(uploads) == [("Cancer/Doe.png", b"another picture"), ("Cancer/Roe.png", bytes_of["Roe"])]
    assert {
        name for bucket in ("scans", "quarantine") for name, _ in versions.contents(system[bucket]) if own in name
    } == set()
    for name, content in versions.contents(system["prepared"]):
        held = pq.read_table(io.BytesIO(content))["scan_id"].to_pylist() if name.endswith(".parquet") else str(content)
        assert own not in held, name
        assert other in held, name
    assert (done.files_rewritten, done.objects) == (1, 2 + 1 + 1 + 3)


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
    storage.create(system["models"], "calibrations/ward-3/v4/scans.txt", own.encode(), "text/plain")
    assert erase(own).releases == ["v1", "v3", "ward-3/v4"]


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
