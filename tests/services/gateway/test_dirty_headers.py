"""Headers as real systems write them: every system of the hospital takes the result, and files it with the scan."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from local.stack.processes import free_port
from services.gateway.destinations import dicom, dicomweb, hl7
from services.gateway.destinations import fhir as emr
from services.gateway.inbox import Instance
from services.gateway.settings import Peer, Settings
from shared.results.headers import encoded, read_header
from shared.results.heat_map_image import HeatMap, heat_map_images
from shared.results.hl7 import control_id
from shared.results.identity import instance_uid
from shared.results.structured_report import KIND, structured_report
from tests.services.gateway.systems import Pacs, hl7_listener
from tests.services.gateway.test_destinations import Made
from tests.support.series import slices, summarised

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom", "ignore:::pynetdicom")

TEXTS = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "StudyDescription", "ReferringPhysicianName")
ODD: dict[str, dict[str, Any]] = {
    "empty": dict.fromkeys((*TEXTS, "StudyDate", "StudyTime", "PatientSex", "PatientBirthDate", "Modality"), b""),
    "blank": dict.fromkeys(TEXTS, b"    "),
    "overlong": dict.fromkeys(TEXTS, b"x" * 100),
    "not of their kind": {
        "PatientSex": b"0000",
        "PatientAge": b"42",
        "PatientWeight": b"heavy",
        "PatientBirthDate": b"19990230",
        "StudyDate": b"no date",
        "StudyTime": b"noon",
    },
    "several values": dict.fromkeys(TEXTS, b"one\\two\\"),
    "control characters": dict.fromkeys(TEXTS, b"Doe^Jane\x00\x07\r\n\x1b"),
    "Latin": {"SpecificCharacterSet": b"ISO_IR 100", "PatientName": "Müller^Jörg".encode("latin-1")},
    "Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    "escape sequences that do not end": {
        "SpecificCharacterSet": b"\\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED^\x1b$BB@O:",
    },
    "undeclared character set": {"SpecificCharacterSet": b"", "PatientName": "Müller^Jörg".encode()},
    "another character set than declared": {
        "SpecificCharacterSet": b"ISO_IR 192",
        "PatientName": "Müller^Jörg".encode("latin-1"),
    },
    "unknown character set": {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": "Müller^Jörg".encode()},
}


def odd(kind: str) -> list[bytes]:
    """Return two slices of a study whose headers are odd; their UIDs are their own."""
    files = slices(f"odd {kind} {uuid.uuid4().hex[:6]}")[10:12]
    return [encoded(_with(dcmread(io.BytesIO(file)), ODD[kind])) for file in files]


def _with(dataset: Dataset, values: dict[str, Any]) -> Dataset:
    """Give a dataset values; bytes are elements that nobody looks at before they are written."""
    for keyword, value in values.items():
        if isinstance(value, bytes):
            tag, even = Tag(keyword), value + b" " * (len(value) % 2)
            dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(even), even, 0, False, True)
        else:
            setattr(dataset, keyword, value)
    return dataset


def real(data: Path, folder: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((data / "dicom" / folder).iterdir())[:2]]


def result(files: list[bytes]) -> Made:
    """Return what the gateway makes of a series of these files."""
    answer = summarised(files, series_id=uuid.uuid4().hex * 2)
    headers = [read_header(file) for file in files]
    heat_map = HeatMap(
        image=np.full((64, 64), 90, np.uint8), values=np.eye(16, dtype=np.float32), left=0, top=0, side=64
    )
    images = heat_map_images(answer, headers, [heat_map] * len(files))
    return Made(answer, headers, [structured_report(answer, headers), *images])


Delivered = Callable[[list[bytes]], None]


@pytest.fixture
def delivered(pacs: Pacs, fhir: str, tmp_path: Path) -> Delivered:
    """Deliver the result of a series to every system, and look for it there."""

    def deliver(files: list[bytes]) -> None:
        made, port = result(files), free_port()
        patients = {pacs.store(file)["ParentPatient"] for file in files}
        dicom.deliver(made, Settings.from_environment(), Peer("ORTHANC", "127.0.0.1", pacs.dicom_port))
        dicomweb.deliver(made, f"{pacs.service.url}/dicom-web")
        emr.deliver(made, fhir)
        with hl7_listener(tmp_path, port):
            hl7.deliver(made, ("127.0.0.1", port))
        assert _patients_of_results(pacs, made) == patients
        report = instance_uid(made.answer.revision, made.answer.series_id, KIND)
        assert report in requests.get(f"{fhir}/DiagnosticReport?_count=1000", timeout=60).text
        assert (tmp_path / f"{control_id(made.answer)}.hl7").exists()

    return deliver


def _patients_of_results(pacs: Pacs, made: Made) -> set[str]:
    """Return the patients, by the PACS's own ids, under whom it has filed the results in the study of the scan."""
    study, sent = str(made.headers[0].StudyInstanceUID), {str(one.SOPInstanceUID) for one in made.objects}
    found = [one for kind in ("SR", "OT") for one in pacs.instances(study, kind)]
    filed = {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}
    return {pacs.patient_of(filed[uid]) for uid in sent}


@pytest.mark.parametrize("kind", ODD)
def test_odd_header_gives_a_result_in_every_system(delivered: Delivered, kind: str) -> None:
    delivered(odd(kind))


@pytest.mark.parametrize("folder", ["brainix-epi", "structural-t1"])
def test_header_of_a_real_scanner_gives_a_result_in_every_system(delivered: Delivered, data: Path, folder: str) -> None:
    delivered(real(data, folder))


@pytest.mark.parametrize("kind", ODD)
def test_odd_header_is_received(kind: str) -> None:
    (file, _) = odd(kind)
    instance, header = Instance.of_file(file), read_header(file)
    assert instance.header.SOPInstanceUID == header.SOPInstanceUID
    assert read_header(instance.file()).StudyInstanceUID == header.StudyInstanceUID
