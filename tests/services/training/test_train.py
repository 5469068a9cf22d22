import shutil

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from pydicom.data import get_testdata_file

from services.training import data, train
from services.training.data import Scans


@pytest.fixture
def scans() -> Scans:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 128, 128), dtype=np.uint8)
    table = pd.DataFrame(
        {
            "scan_id": [f"{i:064x}" for i in range(40)],
            "label": np.repeat([0, 1], 20),
            "type": [""] * 20 + ["glioma"] * 10 + [""] * 10,
            "source": ["kaggle"] * 30 + ["br35h"] * 10,
        }
    )
    return Scans(table, images)


def test_half_the_draws_are_tumours_and_sources_count_alike(scans):
    weights = train.sampling_weights(scans, np.arange(40))
    assert weights[:20].sum() == pytest.approx(0.5)
    assert weights[20:30].sum() == pytest.approx(0.25)


def test_many_copies_of_one_head_are_tamed(scans):
    groups = np.concatenate([np.zeros(16, int), np.arange(1, 25)])
    weights = train.sampling_weights(scans, groups)
    assert weights[:16].sum() == pytest.approx(4 * weights[16])


def test_the_type_counts_only_where_it_is_known(scans):
    expected, weights = train.answers(scans.table)
    assert weights["types"].tolist() == [0] * 20 + [1] * 10 + [0] * 10
    assert expected["types"][25].tolist() == [1, 0, 0]


def test_evidence_in_the_lesion_costs_less_than_evidence_beside_it():
    lesion, cells = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    lesion[:, 1, 1] = 1
    cells[0, 1, 1], cells[1, 3, 2] = 5, 5
    inside, beside = train.beside_lesion(lesion, cells).numpy()
    assert inside == pytest.approx(np.log(np.exp(5) + 15) - 5, abs=1e-3)
    assert beside == pytest.approx(np.log(np.exp(5) + 15), abs=0.02)


def test_a_finished_fit_is_not_done_again(scans, tmp_path):
    schedule = train.Schedule(epochs=1, steps=1, batch=4, small=64)
    first = train.fit(scans, np.arange(40), schedule, tmp_path, scans.only(np.arange(0, 40, 8)))
    history = (tmp_path / "history.csv").read_text()
    again = train.fit(scans, np.arange(40), schedule, tmp_path)
    assert (tmp_path / "history.csv").read_text() == history
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_what_was_learnt_in_mixed_precision_answers_in_single(scans, tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    schedule = train.Schedule(epochs=1, steps=1, batch=1, small=64)
    model = train.fit(scans, np.arange(40), schedule, tmp_path)
    assert model.compute_dtype == "float32"
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(model.predict(scans.inputs()[:2], verbose=0)["logit"]).all()


def test_a_fit_can_be_watched(scans, tmp_path):
    train.fit(scans, np.arange(40), train.Schedule(epochs=1, steps=1, batch=4, small=64), tmp_path)
    assert list((tmp_path / "tensorboard").rglob("events.out.tfevents.*"))


def test_accelerators_get_larger_batches_of_as_many_images():
    keras.mixed_precision.set_global_policy("mixed_float16")
    schedule = train.suited(train.Schedule(epochs=1), tf.distribute.get_strategy())
    keras.mixed_precision.set_global_policy("float32")
    assert (schedule.batch, schedule.steps) == (128, 30)
    assert train.suited(train.Schedule(epochs=1), tf.distribute.get_strategy()).batch == 32


def test_slices_of_one_patient_are_known_without_the_name(tmp_path):
    (tmp_path / "no").mkdir()
    for number in range(2):
        shutil.copy(get_testdata_file("MR_small.dcm"), tmp_path / "no" / f"{number}.dcm")
    (patient,) = set(data.read(str(tmp_path)).table["patient"])
    assert len(patient) == 64


def test_a_folder_of_scans_is_read_once_a_file(tmp_path):
    rng = np.random.default_rng(0)
    for place in ("kaggle/Training/glioma", "kaggle/Training/notumor", "br35h/yes"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        picture = rng.integers(0, 256, (64, 80), dtype=np.uint8)
        for name in ("a.png", "copy of a.png"):
            cv2.imwrite(str(folder / name), picture)
    (tmp_path / "br35h/yes/notes.txt").write_text("not a scan")
    found = data.read(str(tmp_path))
    rows = found.table.set_index(["source", "type"])["label"].to_dict()
    assert rows == {("kaggle", "glioma"): 1, ("kaggle", ""): 0, ("br35h", ""): 1}
    assert found.images.shape == (3, 128, 128)


def test_a_folder_without_scans_says_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match="glioma"):
        data.read(str(tmp_path))
