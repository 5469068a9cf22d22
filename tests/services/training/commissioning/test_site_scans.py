"""Which scans will do to commission a site, and what is said of those that will not."""

import io
from pathlib import Path

import cv2
import pytest
from pydicom import dcmread

from local.samples import dicom, healthy_slices, multi_page_tiff
from services.training.commissioning.site_scans import CannotCommission, read_site
from tests.support.training_scans import head


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """15 scans with a tumour and 15 without, as their folders say."""
    folder = tmp_path / "scans"
    for kind, seeds in (("glioma", range(15)), ("no", range(100, 115))):
        (folder / kind).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(folder / kind / f"{seed * 7}.png"), head(seed))
    return folder


def test_labels_come_from_folders_and_persons_from_likeness(site):
    found = read_site(site, "ward-3")
    assert found.scans.table["label"].sum() == 15
    assert len(found.scans) == len(found.groups) == 30


@pytest.mark.parametrize("name", ["", "Ward 3", "../ward", "ward_3", "a" * 33])
def test_a_source_that_is_no_name_is_refused(site, name):
    with pytest.raises(CannotCommission, match="SOURCE is no name"):
        read_site(site, name)


def test_too_few_are_refused_with_their_number(site):
    for path in list(site.glob("*/*.png"))[:6]:
        path.unlink()
    with pytest.raises(CannotCommission, match="24 different scans"):
        read_site(site, "ward-3")


def test_one_class_alone_is_refused(site):
    for path in (site / "no").iterdir():
        path.rename(site / "glioma" / f"n{path.name}")
    with pytest.raises(CannotCommission, match="30 scans with a tumour and 0 without"):
        read_site(site, "ward-3")


def test_scans_in_a_folder_that_tells_no_label_are_counted_and_not_named(site):
    (site / "perhaps").mkdir()
    cv2.imwrite(str(site / "perhaps" / "doe-jane.png"), head(999))
    (site / "notes.txt").write_text("Not a scan.")
    with pytest.raises(CannotCommission, match="1 scans lie in folders whose names tell no label") as refusal:
        read_site(site, "ward-3")
    assert "doe" not in str(refusal.value)


def test_nothing_labelled_and_no_folder_are_said(tmp_path):
    with pytest.raises(CannotCommission, match="no labelled scan"):
        read_site(tmp_path, "ward-3")
    with pytest.raises(CannotCommission, match="not a folder"):
        read_site(tmp_path / "nowhere", "ward-3")


def test_a_scan_under_both_labels_must_be_decided(site):
    (site / "no" / "copy.png").write_bytes((site / "glioma" / "0.png").read_bytes())
    with pytest.raises(CannotCommission, match="1 scans lie in folders of both labels"):
        read_site(site, "ward-3")


def test_a_file_that_is_no_scan_is_left_out_and_counted(site):
    (site / "no" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    assert read_site(site, "ward-3").unreadable == 1


def test_a_dicom_header_tells_the_sequence(site):
    file = dcmread(io.BytesIO(dicom(healthy_slices()[3])))
    file.ScanningSequence, file.RepetitionTime, file.EchoTime = "SE", 500, 12
    file.save_as(site / "no" / "slice.dcm")
    sequences = read_site(site, "ward-3").scans.table["sequence"].tolist()
    assert sorted(sequences) == [""] * 30 + ["T1"]


def test_pages_of_one_file_are_of_one_person(site):
    (site / "no" / "stack.tif").write_bytes(multi_page_tiff([healthy_slices()[0], healthy_slices()[24]]))
    found = read_site(site, "ward-3")
    paged = found.scans.table["scan_id"].str.contains("-").to_numpy()
    assert paged.sum() == 2
    assert len(set(found.groups[paged])) == 1
