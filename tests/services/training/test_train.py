import cv2
import numpy as np
import pandas as pd
import pytest

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


def test_a_finished_fit_is_not_done_again(scans, tmp_path):
    schedule = train.Schedule(epochs=1, steps=1, batch=4, small=64)
    first = train.fit(scans, np.arange(40), schedule, tmp_path, scans.only(np.arange(0, 40, 8)))
    history = (tmp_path / "history.csv").read_text()
    again = train.fit(scans, np.arange(40), schedule, tmp_path)
    assert (tmp_path / "history.csv").read_text() == history
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


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
