import numpy as np
import pandas as pd

from services.training.data.persons import with_runs
from tests.support.training_scans import head, prepared


def table(files: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"file": files, "person": "", "person_from": ""})


def test_neighbouring_file_numbers_that_look_alike_are_one_person():
    images = prepared(head(0), head(0), head(1), head(0))
    files = ["a/Tr-gl_0010.jpg", "a/Tr-gl_0012.jpg", "a/Tr-gl_0013.jpg", "a/Tr-gl_0040.jpg"]
    found = with_runs(table(files), images)
    persons = found["person"].tolist()
    assert persons[0] == persons[1]
    assert len(set(persons)) == 3
    assert set(found["person_from"]) == {"run"}


def test_numbers_of_other_folders_are_other_runs():
    found = with_runs(table(["a/1.jpg", "b/2.jpg"]), prepared(head(0), head(0)))
    assert found["person"].nunique() == 2


def test_a_told_person_stays_and_no_file_name_is_kept():
    told = pd.DataFrame({"file": ["a/1.jpg", "a/2.jpg"], "person": ["ann", "bob"], "person_from": "told"})
    found = with_runs(told, prepared(head(0), head(0)))
    assert found["person"].tolist() == ["ann", "bob"]
    assert "file" not in found


def test_a_name_without_a_number_is_nobody():
    found = with_runs(table(["a/scan.jpg"]), np.zeros((1, 128, 128), np.uint8))
    assert found["person"].tolist() == [""]
