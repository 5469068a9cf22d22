import numpy as np
import pytest

from services.training.data.sources import box_in, plane_of, read_boxes, read_sources

CSV = """file,source,person,label,sequence,skull
rsna-t1c/yes/1_2.jpg,rsna-t1c,brats21-00001,Cancer,T1c,stripped
oasis/no/a.jpg,oasis,,Non-Cancer,T1,stripped
oasis/no/b.jpg,oasis,,Non-Cancer,T1,stripped
"""


def test_people_of_a_source_without_names_are_one(tmp_path):
    (tmp_path / "sources.csv").write_text(CSV)
    told = read_sources(tmp_path)
    assert told["oasis/no/a.jpg"]["person"] == told["oasis/no/b.jpg"]["person"]
    assert told["oasis/no/a.jpg"]["person_from"] == "source"
    assert told["rsna-t1c/yes/1_2.jpg"]["person_from"] == "told"
    assert told["rsna-t1c/yes/1_2.jpg"]["type"] == "glioma"
    assert "brats21" not in told["rsna-t1c/yes/1_2.jpg"]["person"]


def test_a_folder_without_a_list_tells_nothing(tmp_path):
    assert read_sources(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "plane"),
    [("sub-07_ax042.png", "axial"), ("brisc_no_co_t1.jpg", "coronal"), ("s_sa-30.png", "sagittal"), ("y1.jpg", "")],
)
def test_a_plane_is_read_off_a_name(name, plane):
    assert plane_of(name) == plane


def test_a_box_is_carried_into_the_prepared_image(tmp_path):
    folder = tmp_path / "rsna-t1c" / "boxes"
    folder.mkdir(parents=True)
    (folder / "1_2.txt").write_text("1 0.5 0.25 0.1 0.1\n0 0.5 0.5 0.4 0.2\n")
    (box,) = read_boxes(tmp_path).values()
    assert box.tolist() == [0.5, 0.5, 0.4, 0.2]
    inside = box_in(box, (200, 100), (10, 20, 64))
    assert inside == {"box_x": 80.0, "box_y": 160.0, "box_width": 80.0, "box_height": 80.0}
    assert set(box_in(None, (200, 100), (0, 0, 64)).values()) == {0.0}
    assert np.isfinite(list(inside.values())).all()
