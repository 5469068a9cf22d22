"""What is dropped becomes files and series, within limits."""

import io
import zipfile

import numpy as np
import pytest
from pydicom import dcmread

from dashboard import uploads
from dashboard.inference_client import RefusedFile
from dashboard.uploads import Part
from local import samples


def instance(series: str, position: float, spacing: tuple[float, float] = (0.5, 0.5)) -> bytes:
    """A DICOM instance of this series at this height."""
    dataset = dcmread(io.BytesIO(samples.dicom(samples.healthy_slices()[0])))
    dataset.SeriesInstanceUID = series
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, position]
    dataset.PixelSpacing = list(spacing)
    content = io.BytesIO()
    dataset.save_as(content)
    return content.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def test_a_series_is_one_upload_in_the_order_of_its_slices() -> None:
    dropped = [uploads.part(f"IM{place}", instance("1.2.3", height)) for place, height in enumerate((9.0, -3.5, 2.0))]
    other = uploads.part("other", instance("1.2.4", 0))
    series, single = uploads.grouped([*dropped, other])
    assert [part.name for part in series.parts] == ["IM1", "IM2", "IM0"]
    assert series.title == "IM0 and 2 more of its series"
    assert [part.name for part in single.parts] == ["other"]


def test_spacing_gives_the_length_of_the_longer_side() -> None:
    (upload,) = uploads.grouped([uploads.part("IM0", instance("1.2.3", 0, (0.5, 0.5)))])
    rows, columns = samples.healthy_slices()[0].shape
    assert upload.extent_mm == pytest.approx(0.5 * max(rows, columns))


def test_files_that_are_no_dicom_stay_single_and_in_order() -> None:
    parts = [uploads.part(name, name.encode()) for name in ("b.png", "a.png", "c.png")]
    assert [upload.title for upload in uploads.grouped(parts)] == ["b.png", "a.png", "c.png"]


def test_the_same_file_twice_is_looked_at_once() -> None:
    assert len(uploads.grouped([uploads.part("a", b"x"), uploads.part("b", b"x")])) == 1


def test_a_broken_header_is_left_to_the_service() -> None:
    broken = instance("1.2.3", 0)[:180]
    assert [upload.title for upload in uploads.grouped([uploads.part("IM0", broken)])] == ["IM0"]


def test_a_zip_of_a_study_is_unpacked_without_what_systems_add() -> None:
    content = zipped({"study/IM0": b"one", "study/IM1": b"two", "__MACOSX/IM0": b"x", "study/DICOMDIR": b"index"})
    assert [part.content for part in uploads.unpacked("study.zip", content)] == [b"one", b"two"]


def test_a_file_that_is_no_zip_stays_itself() -> None:
    assert [part.name for part in uploads.unpacked("a.png", b"\x89PNG")] == ["a.png"]


def test_a_zip_beyond_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped({"a": bytes(2000), "b": bytes(2000)})
    monkeypatch.setattr(uploads, "MAX_ZIP_BYTES", 3000)
    with pytest.raises(RefusedFile, match="one study at a time"):
        list(uploads.unpacked("study.zip", content))
    monkeypatch.setattr(uploads, "MAX_ZIP_BYTES", 4000)
    assert len(list(uploads.unpacked("study.zip", content))) == 2
    monkeypatch.setattr(uploads, "MAX_ZIP_FILES", 1)
    with pytest.raises(RefusedFile, match="one study at a time"):
        list(uploads.unpacked("study.zip", content))


def test_a_damaged_zip_says_what_to_do() -> None:
    content = zipped({"a": np.random.default_rng(0).bytes(5000)})
    with pytest.raises(RefusedFile, match="damaged"):
        list(uploads.unpacked("study.zip", content[:-30]))
    with pytest.raises(RefusedFile, match="damaged"):
        list(uploads.unpacked("study.zip", content.replace(content[200:240], bytes(40))))


def test_a_locked_zip_says_what_to_do() -> None:
    content = bytearray(zipped({"a": b"secret"}))
    content[6] |= 1  # local header's flag, and the directory's
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RefusedFile, match="password"):
        list(uploads.unpacked("study.zip", bytes(content)))


def test_a_part_is_named_by_its_bytes() -> None:
    assert uploads.part("a", b"x").key == uploads.part("b", b"x").key
    assert isinstance(uploads.part("a", b"x"), Part)
