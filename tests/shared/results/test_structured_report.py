"""The structured report is valid, complete, and in the study of the scan whatever that scan's header holds."""

import json
import subprocess
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary

from shared.results.headers import NoStudy, encoded, read_header
from shared.results.structured_report import structured_report
from tests.shared.results.conftest import BIN, as_read
from tests.support.series import slices, summarised

SHARED = ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyID", "AccessionNumber")


def headers(files: list[bytes]) -> list[Dataset]:
    return [read_header(file) for file in files]


def walked(item: Dataset) -> list[Dataset]:
    return [item, *(below for child in item.get("ContentSequence", []) for below in walked(child))]


def test_report_has_no_error(errors) -> None:
    files = slices()[10:13]
    assert not errors(structured_report(summarised(files), headers(files)))


def test_report_is_in_the_study_of_its_slices() -> None:
    files = slices()[10:13]
    report = as_read(structured_report(summarised(files), headers(files)))
    source = read_header(files[0])
    assert all(report[keyword] == source[keyword] for keyword in SHARED)
    assert report.SeriesInstanceUID != source.SeriesInstanceUID


def test_report_says_probability_range_class_type_and_that_nobody_verified_it() -> None:
    files = slices()[10:13]
    report = as_read(structured_report(summarised(files), headers(files)))
    items = walked(report)
    numbers = [float(item.MeasuredValueSequence[0].NumericValue) for item in items if item.get("ValueType") == "NUM"]
    assert numbers[:3] == [93.0, 2.0, 5.0]
    codes = {item.ConceptCodeSequence[0].CodeMeaning for item in items if item.get("ValueType") == "CODE"}
    assert {"Present", "Glioma", "Artificial Intelligence"} <= codes
    texts = " ".join(item.TextValue for item in items if item.get("ValueType") == "TEXT")
    assert "research use only" in texts
    assert "143 of 150 slices" in texts
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_report_refers_to_every_suspicious_slice() -> None:
    files = slices()[10:13]
    report = as_read(structured_report(summarised(files), headers(files)))
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walked(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert referred == {str(header.SOPInstanceUID) for header in headers(files)}


def test_report_of_a_frame_names_the_frame() -> None:
    files = slices()[10:11]
    answer = summarised(files)
    frame = summarised(files, suspicious=[_renamed(answer.suspicious[0], f"{answer.suspicious[0].scan_id}-0007")])
    report = structured_report(frame, headers(files))
    images = [item for item in walked(as_read(report)) if item.get("ValueType") == "IMAGE"]
    assert {item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in images} == {7}


def _renamed(one, scan_id: str):
    return type(one)(scan_id=scan_id, name=one.name, probability=one.probability, prediction=one.prediction)


def test_ten_deliveries_are_one_object() -> None:
    files = slices()[10:13]
    made = {encoded(structured_report(summarised(files), headers(files))) for _ in range(3)}
    assert len({as_read_uid(content) for content in made}) == 1


def as_read_uid(content: bytes) -> str:
    return str(read_header(content).SOPInstanceUID)


def test_revision_names_the_report_that_it_takes_the_place_of() -> None:
    files = slices()[10:13]
    first = structured_report(summarised(files), headers(files))
    second = structured_report(summarised(files, revision="f" * 64, previous_revision="e" * 64), headers(files))
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID


@pytest.mark.parametrize("prediction", ["Non-Cancer", "Not a brain MRI"])
def test_other_classes_have_no_tumour_type(errors, prediction: str) -> None:
    files = slices()[10:11]
    report = structured_report(summarised(files, prediction=prediction, tumour_type=None), headers(files))
    assert not errors(report)
    names = {
        item.ConceptNameCodeSequence[0].CodeMeaning for item in walked(report) if "ConceptNameCodeSequence" in item
    }
    assert "Tumour type" not in names


def test_tid1500reader_reads_it(tmp_path: Path) -> None:
    files = slices()[10:13]
    (tmp_path / "sr.dcm").write_bytes(encoded(structured_report(summarised(files), headers(files))))
    read = [BIN / "tid1500reader", "--inputDICOM", tmp_path / "sr.dcm", "--outputMetadata", tmp_path / "sr.json"]
    subprocess.run(read, check=True, capture_output=True)
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    assert len(groups) == 4
    measured = groups[0]["measurementItems"][0]
    assert (measured["quantity"]["CodeValue"], float(measured["value"])) == (
        dictionary.DCM.ProbabilityOfCancer.value,
        93,
    )


@pytest.mark.parametrize("folder", ["brainix-epi", "structural-t1"])
def test_dirty_header_gives_a_report_with_no_error_of_its_own(data: Path, errors, folder: str) -> None:
    files = [file.read_bytes() for file in sorted((data / "dicom" / folder).iterdir())[:3]]
    found = errors(structured_report(summarised(files), headers(files)))
    # Patient and study are the scan's own, its errors too: an age without unit, a sex that is no code.
    assert {error for error in found if "Patient" not in error and "invalid data values" not in error} == set()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "山田^太郎"),
        ("PatientName", ""),
        ("PatientID", "x" * 200),
        ("PatientSex", "0000"),
        ("AccessionNumber", "y" * 60),
        ("StudyDate", "no date"),
        ("PatientAge", "42"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_values_arrive_as_they_are(keyword: str, value: str) -> None:
    files = slices()[10:11]
    (header,) = headers(files)
    header.SpecificCharacterSet = "ISO_IR 192"
    setattr(header, keyword, value)
    (odd,) = headers([encoded(_with_meta(header, files[0]))])
    report = as_read(structured_report(summarised(files), [odd]))
    assert str(report.get(keyword) or "") == value


def _with_meta(header: Dataset, file: bytes) -> Dataset:
    header.file_meta = read_header(file).file_meta
    return header


def test_header_without_a_study_is_refused() -> None:
    header = read_header(slices()[0])
    del header.StudyInstanceUID
    with pytest.raises(NoStudy):
        read_header(encoded(header))
