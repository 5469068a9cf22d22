"""Events survive the journey through JSON, and keep a patient's name to themselves."""

import base64
import json
from dataclasses import MISSING, asdict, fields

import pytest

from shared.events import ScanAccepted, ScanRejected, ScanUploaded, pushed
from shared.labels import Label

ACCEPTED = ScanAccepted(
    scan_id="a" * 64,
    label="Cancer",
    source="ward-3",
    bucket="scans",
    name="Cancer/a.png",
    content_sha256="b" * 64,
    format="TIFF",
    page=0,
    pages=1,
    width=10,
    height=20,
    size=30,
    uploaded_at="2026-01-01T00:00:00Z",
    accepted_at="2026-01-01T00:00:01Z",
)
REJECTED = ScanRejected(
    file_id="c" * 64,
    label="Unlabelled",
    source="unknown",
    reason="truncated",
    generation=7,
    size=3,
    uploaded_at="2026-01-01T00:00:00Z",
    rejected_at="2026-01-01T00:00:01Z",
)
NOTIFICATION = {
    "bucket": "uploads",
    "name": "Non-Cancer/Doe-Jane.dcm",
    "generation": "12",
    "size": "345",
    "timeCreated": "2026-01-01T00:00:00Z",
    "metadata": {"source": "ward-3"},
}


def push(data: bytes, **attributes: str) -> dict:
    return {"message": {"data": base64.b64encode(data).decode(), "attributes": attributes}}


@pytest.mark.parametrize("event", [ACCEPTED, REJECTED], ids=lambda event: event.TOPIC)
def test_event_comes_back_from_a_push_as_it_was(event: ScanAccepted | ScanRejected) -> None:
    assert pushed(push(event.to_json(), event=event.TOPIC)) == event


def test_fields_of_a_newer_publisher_are_ignored() -> None:
    newer = json.dumps(asdict(REJECTED) | {"colour": "blue"}).encode()
    assert ScanRejected.from_json(newer) == REJECTED


@pytest.mark.parametrize("event", [ACCEPTED, REJECTED], ids=lambda event: event.TOPIC)
def test_a_message_of_an_older_publisher_still_parses(event: ScanAccepted | ScanRejected) -> None:
    required = {field.name for field in fields(event) if field.default is MISSING}
    older = {name: value for name, value in asdict(event).items() if name in required}
    assert type(event).from_json(json.dumps(older).encode()) == event
    assert "content_md5" not in older


def test_message_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        pushed(push(b"{}", event="lunch-served"))


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("2026-11-28T04:14:46.45948Z", "2026-11-28T04:14:46.459480Z"),
        ("2026-11-28T04:14:46.459480Z", "2026-11-28T04:14:46.459480Z"),
        ("2026-11-28T04:14:46.459Z", "2026-11-28T04:14:46.459000Z"),
        ("2026-11-28T04:14:46Z", "2026-11-28T04:14:46Z"),
    ],
)
def test_an_upload_keeps_its_time_however_many_digits_tell_it(told: str, kept: str) -> None:
    assert ScanUploaded.from_notification(NOTIFICATION | {"timeCreated": told}).uploaded_at == kept


def test_notification_is_read() -> None:
    upload = ScanUploaded.from_push(push(json.dumps(NOTIFICATION).encode()))
    assert (upload.bucket, upload.generation, upload.size) == ("uploads", 12, 345)
    assert (upload.label, upload.source, upload.is_folder) == (Label.NON_CANCER, "ward-3", False)


def test_upload_without_metadata_has_an_unknown_source() -> None:
    bare = {key: value for key, value in NOTIFICATION.items() if key != "metadata"}
    assert ScanUploaded.from_push(push(json.dumps(bare).encode())).source == "unknown"


def test_printing_an_upload_does_not_name_the_patient() -> None:
    assert "Doe" not in repr(ScanUploaded.from_push(push(json.dumps(NOTIFICATION).encode())))
