"""The FHIR transaction is valid R4, says what the answer says, and can be sent ten times."""

import copy
from pathlib import Path

import fhirkit
import pytest

from shared.results.fhir import transaction
from shared.results.headers import read_header
from tests.support.series import slices, summarised


def resources(bundle: dict) -> dict[str, dict]:
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}


@pytest.mark.parametrize(
    "changes", [{}, {"prediction": "Non-Cancer", "tumour_type": None}, {"previous_revision": "f" * 64}]
)
def test_bundle_and_each_resource_are_valid(changes: dict) -> None:
    files = slices()[10:11]
    bundle = transaction(summarised(files, **changes), read_header(files[0]))
    assert fhirkit.validate(bundle) == []
    assert [fhirkit.validate(entry["resource"]) for entry in bundle["entry"]] == [[], [], [], []]


def test_validator_finds_what_is_wrong() -> None:
    files = slices()[10:11]
    bundle = copy.deepcopy(transaction(summarised(files), read_header(files[0])))
    del bundle["entry"][2]["resource"]["code"]
    assert fhirkit.validate(bundle["entry"][2]["resource"])


def test_everything_is_created_once_by_its_identifier() -> None:
    files = slices()[10:11]
    bundle = transaction(summarised(files), read_header(files[0]))
    again = transaction(summarised(files), read_header(files[0]))
    assert bundle == again
    assert all(entry["request"]["ifNoneExist"].startswith("identifier=") for entry in bundle["entry"])


def test_report_is_preliminary_and_points_at_observation_and_study() -> None:
    files = slices()[10:11]
    bundle = transaction(summarised(files), read_header(files[0]))
    addresses = {entry["resource"]["resourceType"]: entry["fullUrl"] for entry in bundle["entry"]}
    report = resources(bundle)["DiagnosticReport"]
    assert report["status"] == "preliminary"
    assert report["result"] == [{"reference": addresses["Observation"]}]
    assert report["imagingStudy"] == [{"reference": addresses["ImagingStudy"]}]
    assert "research use only" in report["conclusion"]


def test_observation_holds_probability_and_range() -> None:
    files = slices()[10:11]
    observation = resources(transaction(summarised(files), read_header(files[0])))["Observation"]
    assert observation["valueQuantity"]["value"] == 93.0
    assert [part.get("valueQuantity", {}).get("value") for part in observation["component"]] == [88.0, 95.0, None]


@pytest.mark.parametrize("folder", ["brainix-epi", "structural-t1"])
def test_dirty_header_still_gives_a_valid_bundle(data: Path, folder: str) -> None:
    content = min((data / "dicom" / folder).iterdir()).read_bytes()
    bundle = transaction(summarised([content]), read_header(content))
    assert [fhirkit.validate(entry["resource"]) for entry in bundle["entry"]] == [[], [], [], []]


def test_empty_header_still_gives_a_valid_bundle() -> None:
    header = read_header(slices()[10])
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "Modality"):
        header[keyword].clear()
    bundle = transaction(summarised(slices()[10:11]), header)
    assert [fhirkit.validate(entry["resource"]) for entry in bundle["entry"]] == [[], [], [], []]
