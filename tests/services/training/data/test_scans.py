import io
import shutil
import uuid

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.data import get_testdata_file

from local.stack.provision import make_buckets
from local.stack.system import Stack
from services.training.data import scans
from services.training.data.scans import parquet_rows, read
from shared.gcp import storage
from shared.ml import dataset
from shared.scan import file_id_of


def test_slices_of_one_patient_are_known_without_the_name(tmp_path):
    (tmp_path / "no").mkdir()
    for number in range(2):
        shutil.copy(get_testdata_file("MR_small.dcm"), tmp_path / "no" / f"{number}.dcm")
    table = read(str(tmp_path)).table
    assert len(set(table["person"])) == 1
    assert set(table["person_from"]) == {"told"}
    assert not table.astype(str).apply(lambda column: column.str.contains("4MR1")).to_numpy().any()


def test_a_folder_of_scans_is_read_once_a_file(tmp_path):
    rng = np.random.default_rng(0)
    for place in ("kaggle/Training/glioma", "kaggle/Training/notumor", "br35h/yes"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        picture = rng.integers(0, 256, (64, 80), dtype=np.uint8)
        for name in ("a.png", "copy of a.png"):
            cv2.imwrite(str(folder / name), picture)
    (tmp_path / "br35h/yes/notes.txt").write_text("not a scan")
    found = read(str(tmp_path))
    rows = found.table.set_index(["source", "type"])["label"].to_dict()
    assert rows == {("kaggle", "glioma"): 1, ("kaggle", ""): 0, ("br35h", ""): 1}
    assert found.images.shape == (3, 128, 128)


def test_a_folder_without_scans_says_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match="glioma"):
        read(str(tmp_path))


def prepared(*scan_ids: str) -> bytes:
    """Return Parquet as a Spark batch writes it."""
    blank = {field.name: None for field in dataset.SCHEMA} | {"image": np.zeros((128, 128, 3), np.float32).tobytes()}
    told = {"label": "Cancer", "source": "ward", "type": "glioma", "person": "f00"}
    content = io.BytesIO()
    rows = [blank | told | {"scan_id": each} for each in scan_ids]
    pq.write_table(pa.Table.from_pylist(rows, schema=dataset.SCHEMA), content)
    return content.getvalue()


@pytest.fixture
def bucket(stack: Stack) -> str:
    """A prepared bucket with 60 scans of one page and 20 of three pages, in two objects."""
    name = f"prepared-{uuid.uuid4().hex[:8]}"
    make_buckets({"prepared": name})
    single = [f"{number:064x}" for number in range(60)]
    paged = [f"{number:064x}-{page:04d}" for number in range(100, 120) for page in (1, 2, 3)]
    for part, ids in enumerate((single, paged)):
        storage.create(name, dataset.prepared_object("Cancer", "m", part), prepared(*ids), "application/octet-stream")
    return name


def test_a_bucket_that_is_too_large_is_sampled_by_files_and_the_same_each_time(bucket, monkeypatch):
    every = read(f"gs://{bucket}").table["scan_id"]
    assert len(every) == 120
    monkeypatch.setattr(scans, "_MOST_BYTES", sum(part.size for part in storage.objects(bucket)) // 2)
    drawn = list(read(f"gs://{bucket}").table["scan_id"])
    assert 40 < len(drawn) < 80
    assert drawn == list(read(f"gs://{bucket}").table["scan_id"])
    pages = [each for each in drawn if "-" in each]
    assert len(pages) == 3 * len({file_id_of(each) for each in pages})
    left = next(each for each in every if each not in drawn)
    assert {*drawn, left} == set(read(f"gs://{bucket}", frozenset({left})).table["scan_id"])


def test_type_and_person_come_through_the_prepared_parquet():
    ((known, _),) = parquet_rows(prepared("a"))
    assert (known["type"], known["person"], known["person_from"]) == ("glioma", "f00", "told")
