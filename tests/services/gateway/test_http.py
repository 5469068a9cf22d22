"""STOW-RS and the little QIDO-RS, asked by dicomweb-client."""

import io
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from services.gateway import http
from shared.gcp import storage
from shared.results.headers import encoded
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.test_receiver import OUT_OF_RESOURCES, instances, send
from tests.support.series import slices
from tests.support.waiting import wait_until

TYPE = 'multipart/related; type="application/dicom"; boundary=here'


def body(*parts: bytes) -> bytes:
    return (
        b"".join(b"--here\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts) + b"--here--"
    )


def post(gateway: Gateway, content: bytes, path: str = "/studies", **headers: str) -> requests.Response:
    return requests.post(gateway.server.url + path, data=content, headers={"Content-Type": TYPE} | headers, timeout=60)


def test_instances_are_stored_and_named_in_the_answer(gateway: Gateway) -> None:
    answer = DICOMwebClient(gateway.server.url).store_instances(instances("stow")[:3])
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    assert len(gateway.names("stow")) == 3


def test_same_instance_by_both_ways_is_one_object(gateway: Gateway) -> None:
    assert send(gateway, instances("both")[:1]) == [0]
    assert post(gateway, body(slices("both")[0])).status_code == 200
    assert len(gateway.names("both")) == 1


def test_good_part_is_kept_and_bad_part_is_named(gateway: Gateway) -> None:
    answer = post(gateway, body(slices("mixed")[0], b"no DICOM"))
    assert answer.status_code == 202
    assert {"00081199", "00081198"} <= answer.json().keys()
    assert len(gateway.names("mixed")) == 1


def test_identifiers_that_break_the_standard_are_kept_and_not_quoted_in_the_log(gateway: Gateway) -> None:
    (dataset,) = instances("broken")[:1]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        tag = Tag(keyword)
        dataset[tag] = RawDataElement(tag, "UI", 8, b"Doe^Jane", 0, False, True)
    assert post(gateway, body(encoded(dataset))).status_code == 200
    assert len(gateway.names("broken")) == 1
    assert "Doe" not in gateway.log.read_text()


def test_nothing_kept_is_a_conflict(gateway: Gateway) -> None:
    assert post(gateway, body(b"no DICOM")).status_code == 409


def test_instance_of_another_study_than_the_address_says_is_refused(gateway: Gateway) -> None:
    assert post(gateway, body(slices("other")[0]), "/studies/1.2.3").status_code == 409


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", TYPE, 400),
        (body(b"x")[:-6], TYPE, 400),
        (b"{}", "application/json", 415),
        (body(b"x"), "multipart/related", 415),
    ],
)
def test_body_that_is_no_multipart_is_refused(gateway: Gateway, content: bytes, content_type: str, status: int) -> None:
    answer = post(gateway, content, **{"Content-Type": content_type})
    assert answer.status_code == status


def test_requests_that_end_inside_an_object_keep_what_came_whole_and_take_no_place(gateway: Gateway) -> None:
    content = body(*slices("cut")[:2])
    head = f"POST /studies HTTP/1.1\r\nHost: gateway\r\nContent-Type: {TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
    for _ in range(http._AT_A_TIME):
        with socket.create_connection(("127.0.0.1", urlsplit(gateway.server.url).port or 80)) as connection:
            connection.sendall(head.encode() + content[:-1000])
            wait_until(lambda: len(gateway.names("cut")) == 1)
    wait_until(lambda: post(gateway, content).status_code == 200)
    assert len(gateway.names("cut")) == 2


def test_bucket_that_cannot_be_reached_is_no_success_by_either_way(start: Start) -> None:
    """Asked together, because each waits twenty seconds for the bucket."""
    with start(STORAGE_EMULATOR_HOST="http://127.0.0.1:9") as gateway, ThreadPoolExecutor(2) as pool:
        sent = pool.submit(send, gateway, instances("unreached")[:1])
        posted = pool.submit(post, gateway, body(slices("unreached")[0]))
        assert sent.result() == [OUT_OF_RESOURCES]
        assert posted.result().status_code == 503


def test_received_study_can_be_asked_for(gateway: Gateway) -> None:
    datasets = instances("asked")[:4]
    send(gateway, datasets)
    client = DICOMwebClient(gateway.server.url)
    study = str(datasets[0].StudyInstanceUID)
    assert len(client.search_for_studies(search_filters={"StudyInstanceUID": study})) == 1
    assert len(client.search_for_series(study)) == 1
    found = {item["00080018"]["Value"][0] for item in client.search_for_instances(study)}
    assert found == {str(dataset.SOPInstanceUID) for dataset in datasets}
    assert client.search_for_instances("1.2.3") == []


def test_token_is_asked_for_where_there_is_one(start: Start) -> None:
    with start(DICOMWEB_TOKEN="secret") as gateway:  # noqa: S106 - opens nothing
        assert post(gateway, body(slices("token")[0])).status_code == 401
        assert post(gateway, body(slices("token")[0]), Authorization="Bearer wrong").status_code == 401
        assert post(gateway, body(slices("token")[0]), Authorization="Bearer secret").status_code == 200


def test_stored_file_is_whole(gateway: Gateway) -> None:
    post(gateway, body(slices("whole")[0]))
    (name,) = gateway.names("whole")
    stored = dcmread(io.BytesIO(storage.read(gateway.bucket, name)))
    assert stored == dcmread(io.BytesIO(slices("whole")[0]))
