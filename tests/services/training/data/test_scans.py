import io
import shutil

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.data import get_testdata_file

from services.training.data.scans import parquet_rows, read
from shared.ml import dataset


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


def test_type_and_person_come_through_the_prepared_parquet():
    row = {field.name: None for field in dataset.SCHEMA}
    row |= {"scan_id": "a", "label": "Cancer", "source": "ward", "type": "glioma", "person": "f00"}
    row |= {"image": np.zeros((128, 128, 3), np.float32).tobytes()}
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=dataset.SCHEMA), content)
    ((known, _),) = parquet_rows(content.getvalue())
    assert (known["type"], known["person"], known["person_from"]) == ("glioma", "f00", "told")
