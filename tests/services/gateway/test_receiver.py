"""C-STORE and C-ECHO: success means that the object is durable; the same instance twice is one object."""

import hashlib
import io
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES
from pynetdicom.sop_class import Verification

from shared.gcp import storage
from tests.services.gateway.conftest import Gateway, Start
from tests.support.series import slices

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


def instances(name: str) -> list[Dataset]:
    return [dcmread(io.BytesIO(content)) for content in slices(name)]


def send(gateway: Gateway, datasets: list[Dataset], title: str = "MODALITY") -> list[int]:
    """Send instances in one association; answers the status of each."""
    entity = AE(ae_title=title)
    entity.dimse_timeout = 120  # a busy machine
    for dataset in datasets:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", gateway.dicom_port)
    assert association.is_established
    statuses = [association.send_c_store(dataset).Status for dataset in datasets]
    association.release()
    return statuses


def test_echo_is_answered(gateway: Gateway) -> None:
    entity = AE()
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", gateway.dicom_port)
    assert association.send_c_echo().Status == SUCCESS
    association.release()


def test_stored_instance_is_in_the_bucket_under_the_hash_of_its_content(gateway: Gateway) -> None:
    (dataset,) = instances("stored")[:1]
    assert send(gateway, [dataset]) == [SUCCESS]
    (name,) = gateway.names("stored")
    content = storage.read(gateway.bucket, name)
    assert name.rpartition("/")[2] == f"{hashlib.sha256(content).hexdigest()}.dcm"
    stored = dcmread(io.BytesIO(content))
    assert stored == dataset


def test_name_of_the_object_says_nothing_of_the_patient(gateway: Gateway) -> None:
    send(gateway, instances("nameless")[:1])
    names = [blob.name for blob in storage.objects(gateway.bucket)]
    assert not [name for name in names if "nameless" in name or "2.25" in name]


def test_slices_of_a_series_lie_in_one_folder(gateway: Gateway) -> None:
    assert send(gateway, instances("folder")[:5]) == [SUCCESS] * 5
    assert len(gateway.names("folder")) == 5
    assert len({name.rpartition("/")[0] for name in gateway.names("folder")}) == 1


def test_same_instance_twice_is_one_object(gateway: Gateway) -> None:
    (dataset,) = instances("twice")[:1]
    assert send(gateway, [dataset, dataset]) == [SUCCESS] * 2
    dataset.file_meta.ImplementationVersionName = "ANOTHER SENDER"
    assert send(gateway, [dataset]) == [SUCCESS]
    assert len(gateway.names("twice")) == 1


def test_two_modalities_send_at_once(gateway: Gateway) -> None:
    with ThreadPoolExecutor(2) as pool:
        sent = list(pool.map(lambda name: send(gateway, instances(name)[:10], name), ["FIRST", "SECOND"]))
    assert sent == [[SUCCESS] * 10] * 2
    assert [len(gateway.names(name)) for name in ("FIRST", "SECOND")] == [10, 10]


@pytest.mark.parametrize("syntax", ALL_TRANSFER_SYNTAXES, ids=lambda syntax: UID(syntax).name)
def test_every_transfer_syntax_is_stored_as_it_came(gateway: Gateway, syntax: str) -> None:
    (dataset,) = instances(f"syntax-{syntax}")[:1]
    _transcode(dataset, UID(syntax))
    assert send(gateway, [dataset]) == [SUCCESS]
    (name,) = gateway.names(f"syntax-{syntax}")
    stored = dcmread(io.BytesIO(storage.read(gateway.bucket, name)))
    assert stored.file_meta.TransferSyntaxUID == syntax
    assert stored.PatientID == dataset.PatientID
    assert stored.PixelData == dataset.PixelData


def _transcode(dataset: Dataset, syntax: UID) -> None:
    """Give a dataset the form of a transfer syntax; what is compressed is not decoded here, so it may be anything."""
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.PixelData = encapsulate([b"\xff\xd8 not decoded here \xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif not syntax.is_little_endian:
        dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
    dataset.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    dataset.file_meta.TransferSyntaxUID = syntax


def test_result_of_ours_that_comes_back_is_taken_and_not_scanned(gateway: Gateway) -> None:
    (dataset,) = instances("returned")[:1]
    dataset.Manufacturer = "Scanflow"
    assert send(gateway, [dataset]) == [SUCCESS]
    assert gateway.names("returned") == []


def test_object_without_its_study_is_refused(gateway: Gateway) -> None:
    (dataset,) = instances("homeless")[:1]
    del dataset.StudyInstanceUID
    assert send(gateway, [dataset]) == [CANNOT_UNDERSTAND]


def test_private_storage_class_is_taken(gateway: Gateway) -> None:
    (dataset,) = instances("private")[:1]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.3.12.2.1107.5.9.1"
    assert send(gateway, [dataset]) == [SUCCESS]
    assert len(gateway.names("private")) == 1


def test_value_that_breaks_the_standard_is_stored_and_not_quoted_in_the_log(gateway: Gateway) -> None:
    (dataset,) = instances("quoted")[:1]
    tag, marker = Tag("SeriesInstanceUID"), b"Doe^Jane"
    dataset[tag] = RawDataElement(tag, "UI", len(marker), marker, 0, False, True)
    assert send(gateway, [dataset]) == [SUCCESS]
    assert len(gateway.names("quoted")) == 1
    assert "Doe" not in gateway.log.read_text()


def test_gateway_that_is_told_to_stop_does_so_without_an_error(start: Start) -> None:
    with start() as stopped:
        stopped.server.process.send_signal(signal.SIGINT)
        assert stopped.server.process.wait(60) == 0


def test_stranger_is_refused_where_peers_are_named(start: Start) -> None:
    with start(DICOM_PEERS="MRI-1@127.0.0.1,MRI-2,MRI-3@192.0.2.7,MRI-4@nobody.invalid") as gateway:
        assert send(gateway, instances("peers")[:1], "MRI-1") == [SUCCESS]
        assert send(gateway, instances("peers")[1:2], "MRI-2") == [SUCCESS]
        assert [_is_let_in(gateway, title) for title in ("STRANGER", "MRI-3", "MRI-4")] == [False] * 3


def _is_let_in(gateway: Gateway, title: str) -> bool:
    entity = AE(ae_title=title)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", gateway.dicom_port)
    established = bool(association.is_established)
    association.release()
    return established


def test_aborted_association_leaves_what_was_acknowledged_and_nothing_half(gateway: Gateway) -> None:
    datasets = instances("aborted")[:6]
    entity = AE()
    entity.add_requested_context(datasets[0].SOPClassUID, datasets[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", gateway.dicom_port)
    statuses = [association.send_c_store(dataset).Status for dataset in datasets[:3]]
    association.abort()
    assert statuses == [SUCCESS] * 3
    assert len(gateway.names("aborted")) == 3
    assert send(gateway, datasets) == [SUCCESS] * 6
    assert len(gateway.names("aborted")) == 6


def test_killed_gateway_lost_nothing_that_it_acknowledged(start: Start, gateway: Gateway) -> None:
    datasets = instances("killed")[:8]
    with start(gateway.bucket) as victim:
        assert send(victim, datasets[:4]) == [SUCCESS] * 4
        victim.server.process.send_signal(signal.SIGKILL)
        victim.server.process.wait()
    assert len(gateway.names("killed")) == 4
    assert send(gateway, datasets) == [SUCCESS] * 8
    assert len(gateway.names("killed")) == 8
