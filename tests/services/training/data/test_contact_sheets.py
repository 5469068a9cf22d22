import hashlib

import numpy as np
import pandas as pd
from PIL import Image

from services.training.data import contact_sheets
from tests.support.training_scans import scans


def test_one_scan_of_each_group_of_copies_is_drawn_in_an_order_that_tells_nothing():
    ids = np.array([f"{number:064x}" for number in range(40)])
    copies = np.arange(40) // 2
    rows = contact_sheets.drawn(ids, copies)
    assert sorted(copies[rows]) == list(range(20))
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in ids[rows]]
    assert hashes == sorted(hashes)
    assert (np.diff(rows) < 0).any()
    shuffled = np.random.default_rng(0).permutation(40)
    assert ids[shuffled][contact_sheets.drawn(ids[shuffled], copies[shuffled])].tolist() == ids[rows].tolist()


def test_every_number_of_the_sheets_leads_to_its_scan(tmp_path):
    images = np.arange(32, dtype=np.uint8)[:, None, None] * 8 * np.ones((1, 128, 128), np.uint8)
    told = scans(images)
    found = contact_sheets.write(told, np.arange(32), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.csv", "sheet-001.png", "sheet-002.png"]
    assert found["number"].tolist() == list(range(1, 33))
    assert found["sheet"].tolist() == [1] * 30 + [2] * 2
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "index.csv"), found)
    grey = dict(zip(told.table["scan_id"], images[:, 0, 0], strict=True))
    first, second = (np.asarray(Image.open(tmp_path / f"sheet-00{number}.png")) for number in (1, 2))
    width, height = first.shape[1] // contact_sheets.COLUMNS, first.shape[0] // contact_sheets.ROWS
    for row in found.itertuples():
        place = (row.number - 1) % 30
        sheet = second if row.sheet == 2 else first
        assert sheet[place // 6 * height + height // 2, place % 6 * width + width // 2] == grey[row.scan_id]
