"""validate_scan: the good reaches the scans bucket, the bad is recorded with its reason, the rest is retried."""

import json
import logging
import random

import pytest

from local.samples import Sample, dicom, healthy_slices, samples
from shared import config
from shared.errors import Note, Reason
from shared.gcp import bigquery, storage
from shared.imaging.decoding import decode
from shared.pseudonyms import pseudonym
from shared.results.headers import read_header
from shared.scan import MAX_BYTES, file_id
from tests.functions.conftest import Cloud, Push, push
from tests.support.annotations import Annotation, annotated
from tests.support.heads import encoded, head
from tests.support.named_files import NAME, NAMED
from tests.support.series import slices as series_files

TABLES = ("scans", "rejections", "dead_letters", "series_slices")
SAMPLES = [sample for sample in samples() if sample.kind != "exact duplicate"]


@pytest.fixture(scope="module")
def validate_scan(cloud: Cloud) -> Push:
    return push("validate_scan")


@pytest.mark.parametrize("sample", [s for s in SAMPLES if isinstance(s.expected, int)], ids=lambda s: s.kind)
def test_good_file_becomes_a_scan_a_page(cloud: Cloud, validate_scan: Push, sample: Sample) -> None:
    notification = cloud.upload(sample.object_name, sample.content, {"source": "ward-3"})
    assert validate_scan(notification) == 200
    events = cloud.pull("scan-accepted")
    assert [event["page"] for event in events] == list(range(sample.expected))
    assert {(event["label"], event["source"]) for event in events} == {(sample.label, "ward-3")}
    for event in events:
        stored = storage.read(event["bucket"], event["name"])
        assert file_id(stored) == event["content_sha256"]
        assert decode(stored).format in {"PNG", "JPEG"}
        assert event["scan_id"].startswith(file_id(sample.content))


@pytest.mark.parametrize("sample", [s for s in SAMPLES if isinstance(s.expected, Reason)], ids=lambda s: s.kind)
def test_bad_file_is_quarantined_with_its_reason(cloud: Cloud, validate_scan: Push, sample: Sample) -> None:
    before = cloud.names("scans")
    assert validate_scan(cloud.upload(sample.object_name, sample.content)) == 200
    (event,) = cloud.pull("scan-rejected")
    assert (event["reason"], event["file_id"]) == (sample.expected, file_id(sample.content))
    record = json.loads(storage.read(cloud.buckets["quarantine"], f"{sample.label}/{event['file_id']}.json"))
    assert record == event
    assert cloud.names("scans") == before


def test_file_over_the_limit_is_rejected_unread(cloud: Cloud, validate_scan: Push) -> None:
    notification = cloud.upload("Cancer/huge", b"never read") | {"size": str(MAX_BYTES + 1)}
    assert validate_scan(notification) == 200
    (event,) = cloud.pull("scan-rejected")
    assert event["reason"] == Reason.TOO_LARGE


def test_second_delivery_changes_nothing(cloud: Cloud, validate_scan: Push) -> None:
    notification = cloud.upload("Non-Cancer/twice", SAMPLES[0].content)
    assert validate_scan(notification) == 200
    names, first = cloud.names("scans"), cloud.pull("scan-accepted")
    assert validate_scan(notification) == 200
    assert cloud.names("scans") == names
    (second,) = cloud.pull("scan-accepted")
    assert second | {"accepted_at": None} == first[0] | {"accepted_at": None}


def test_nothing_of_a_dicom_header_leaves_the_uploads_bucket(
    cloud: Cloud, validate_scan: Push, capfd: pytest.CaptureFixture[str]
) -> None:
    content = dicom(healthy_slices()[3], patient="Doe^Jane")
    assert validate_scan(cloud.upload("Unlabelled/Doe-Jane.dcm", content)) == 200
    assert validate_scan(cloud.upload("Unlabelled/Doe-Jane-cut.dcm", content[:-5000])) == 200
    (accepted,), (rejected,) = cloud.pull("scan-accepted"), cloud.pull("scan-rejected")
    kept = [
        storage.read(cloud.buckets[bucket], name) for bucket in ("scans", "quarantine") for name in cloud.names(bucket)
    ]
    names = cloud.names("scans") + cloud.names("quarantine")
    seen = b"".join(kept) + json.dumps([accepted, rejected, names]).encode() + "".join(capfd.readouterr()).encode()
    assert b"Doe" not in seen
    assert b"4711" not in json.dumps([accepted, rejected]).encode()


def test_upload_that_was_deleted_for_good_is_withdrawn_and_its_name_not_logged(
    cloud: Cloud, validate_scan: Push, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    notification = cloud.upload("Cancer/Doe-Jane.jpg", SAMPLES[0].content)
    storage.client().bucket(cloud.buckets["uploads"]).blob("Cancer/Doe-Jane.jpg").delete()
    assert validate_scan(notification) == 200
    assert cloud.pull("scan-accepted") == cloud.pull("scan-rejected") == []
    assert "Doe" not in "".join(capfd.readouterr()) + caplog.text


def test_bucket_that_does_not_exist_is_no_withdrawn_upload(cloud: Cloud, validate_scan: Push) -> None:
    notification = cloud.upload("Cancer/elsewhere.jpg", SAMPLES[0].content)
    assert validate_scan(notification | {"bucket": "no-such-bucket-anywhere"}) == 500


def test_event_describes_what_is_stored_though_an_earlier_decoder_stored_otherwise(
    cloud: Cloud, validate_scan: Push
) -> None:
    notification = cloud.upload("Non-Cancer/rendered.dcm", dicom(healthy_slices()[9]))
    assert validate_scan(notification) == 200
    (first,) = cloud.pull("scan-accepted")
    bucket = storage.client().bucket(first["bucket"])
    bucket.blob(first["name"]).upload_from_string(b"as an earlier decoder rendered it")
    assert validate_scan(notification) == 200
    (event,) = cloud.pull("scan-accepted")
    assert file_id(storage.read(event["bucket"], event["name"])) == event["content_sha256"]


def test_file_whose_writing_was_cut_short_is_finished_alike(cloud: Cloud, validate_scan: Push) -> None:
    """A kill after the first of several pages: the retry writes the others and announces all of them."""
    several = next(s for s in SAMPLES if isinstance(s.expected, int) and s.expected > 1)
    notification = cloud.upload("Cancer/cut-short", several.content + b"\0")
    assert validate_scan(notification) == 200
    events = cloud.pull("scan-accepted")
    for event in events[1:]:
        storage.client().bucket(event["bucket"]).blob(event["name"]).delete()
    assert validate_scan(notification) == 200
    again = cloud.pull("scan-accepted")
    assert sorted(event["scan_id"] for event in again) == sorted(event["scan_id"] for event in events)
    for event in again:
        assert file_id(storage.read(event["bucket"], event["name"])) == event["content_sha256"]


def test_folder_made_in_a_console_is_no_scan(cloud: Cloud, validate_scan: Push) -> None:
    notification = cloud.upload("Cancer/empty", b"") | {"name": "Cancer/"}
    assert validate_scan(notification) == 200
    assert cloud.pull("scan-accepted") == cloud.pull("scan-rejected") == []


def test_slice_carries_its_study_series_and_place_and_nobodys_name(cloud: Cloud, validate_scan: Push) -> None:
    first, second = series_files("Marker")[10:12]
    for name, content in (("Unlabelled/a.dcm", first), ("Unlabelled/b.dcm", second)):
        assert validate_scan(cloud.upload(name, content)) == 200
    events = cloud.pull("scan-accepted")
    header = read_header(first)
    key = config.pseudonym_key()
    assert {event["study_id"] for event in events} == {pseudonym(key, header.StudyInstanceUID)}
    assert {event["series_id"] for event in events} == {pseudonym(key, header.SeriesInstanceUID)}
    assert {event["accession_id"] for event in events} == {pseudonym(key, header.AccessionNumber.upper())}
    assert {event["plane"] for event in events} == {"axial"}
    assert events[1]["slice_position_mm"] - events[0]["slice_position_mm"] == pytest.approx(3)
    told = json.dumps(events)
    assert not [word for word in ("Marker", "SAMPLE", "ACC-", header.StudyInstanceUID) if str(word) in told]


def test_pages_of_one_file_are_a_series(cloud: Cloud, validate_scan: Push) -> None:
    (stack,) = [sample for sample in SAMPLES if sample.kind.startswith("multi-page")]
    assert validate_scan(cloud.upload("Cancer/pages.tif", stack.content)) == 200
    assert {event["series_id"] for event in cloud.pull("scan-accepted")} == {file_id(stack.content)}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("off", ([None], [])), ("flag", ([Note.BURNT_IN_TEXT], [])), ("quarantine", ([], [Reason.BURNT_IN_TEXT]))],
)
def test_setting_says_what_becomes_of_text_burnt_into_a_scan(
    cloud: Cloud,
    validate_scan: Push,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    expected: tuple[list[str | None], list[str]],
) -> None:
    page, _ = annotated(head(420, 400), Annotation("DOE^JANE", "DejaVuSans", 18, 200, False), random.Random(3))
    monkeypatch.setenv("BURNT_IN_TEXT", mode)
    assert validate_scan(cloud.upload(f"Unlabelled/{mode}.png", encoded(page, "PNG"))) == 200
    notes = [event["note"] for event in cloud.pull("scan-accepted")]
    assert (notes, [event["reason"] for event in cloud.pull("scan-rejected")]) == expected


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_in_any_place_of_a_file_stays_in_the_uploads_bucket(
    cloud: Cloud, kind: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No other bucket, row, event, log or dead-letter message has it."""
    content = NAMED[kind]
    assert NAME.encode() in content or kind.startswith("nifti")  # whose name is deflated, with the rest
    caplog.set_level(logging.INFO)  # as in the cloud: the HTTP client would log the address of every object below it
    upload = cloud.upload(f"Cancer/{NAME}/{NAME} {kind}", content, {"source": NAME, "patient": NAME})
    assert push("validate_scan")(upload) == 200
    assert push("record_dead_letter")(upload, **_given_up("validate-scan-on-scan-uploaded")) == 200
    record_scan = push("record_scan")
    events = {topic: cloud.pull(topic) for topic in ("scan-accepted", "scan-rejected")}
    good = kind in ("jpeg", "png", "bmp", "tiff", "dicom", "nifti")
    assert bool(events["scan-accepted"]) is good
    assert bool(events["scan-rejected"]) is not good
    for topic, published in events.items():
        for event in published:
            assert record_scan(event, event=topic) == 200
            assert push("record_dead_letter")(event, **_given_up(f"score-scan-on-{topic}")) == 200
    kept = [blob for bucket in ("scans", "quarantine") for blob in storage.objects(cloud.buckets[bucket])]
    assert kept
    rows = [
        row
        for table in ("scans", "rejections", "dead_letters")
        for row in bigquery.query(f"SELECT * FROM {{dataset}}.{table}")
    ]
    assert rows
    said = "".join(capfd.readouterr()) + caplog.text
    seen = said + str(events) + str(rows) + str([(blob.name, blob.metadata) for blob in kept])
    assert NAME.lower() not in seen.lower()
    assert all(NAME.encode() not in blob.download_as_bytes() for blob in kept)


def _given_up(subscription: str) -> dict[str, str]:
    source = {"Subscription": subscription, "TopicPublishTime": "2026-01-01T00:00:00Z", "DeliveryCount": "10"}
    return {f"CloudPubSubDeadLetterSource{name}": text for name, text in source.items()}
