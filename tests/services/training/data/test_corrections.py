"""Which labels are learnt from what readers and folders say."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from local.samples import encode, healthy_slices
from local.stack.system import BUCKETS
from services.training.data import corrections
from services.training.data.corrections import decided
from services.training.data.scans import as_bytes
from shared.gcp import bigquery, storage
from shared.imaging.preprocessing import prepare
from shared.review_sample import in_review_sample

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def named(sampled: bool = False, seed: int = 0) -> str:
    """Return the id of a scan that is in the sample that measures, or is not."""
    names = (hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(10_000))
    return next(name for name in names if in_review_sample(name) == sampled)


SCAN = named()


def said(reading: str, reader: str = "r1", scan: str = SCAN, prediction: str = "Cancer", minutes: int = 0) -> dict:
    at = NOON + timedelta(minutes=minutes)
    return {"scan_id": scan, "reader": reader, "reading": reading, "prediction": prediction, "given_at": at}


def accepted(scan: str = SCAN, label: str = "Unlabelled", source: str = "ward-3") -> dict:
    return {"scan_id": scan, "label": label, "source": source, "object_name": f"{label}/{scan}.png"}


def test_a_reader_who_corrects_the_answer_weighs_more_than_one_who_confirms_it():
    corrected = decided([said("Non-Cancer")], [accepted()]).table.iloc[0]
    confirmed = decided([said("Cancer")], [accepted()]).table.iloc[0]
    assert (corrected["label"], corrected["basis"], corrected["source"]) == (0, "corrected", "ward-3")
    assert (confirmed["label"], confirmed["basis"]) == (1, "confirmed")
    assert corrected["weight"] > confirmed["weight"] > corrections.WEIGHTS["folder"]


def test_the_latest_of_a_reader_counts_in_whatever_order_rows_come():
    rows = [said("Non-Cancer", minutes=5), said("Cancer", minutes=0)]
    assert decided(rows, [accepted()]).table["label"].tolist() == [0]
    assert decided(rows[::-1], [accepted()]).table["label"].tolist() == [0]


def test_readers_who_disagree_teach_nothing():
    found = decided([said("Non-Cancer"), said("Cancer", "r2")], [accepted(label="Cancer")])
    assert len(found) == 0
    assert found.left_out == {"readers disagree": {SCAN}}


def test_a_reader_who_cannot_tell_is_no_conflict_and_no_label():
    both = decided([said("Non-Cancer"), said("Cannot tell", "r2")], [accepted()])
    assert both.table["label"].tolist() == [0]
    assert len(decided([said("Cannot tell")], [accepted()])) == 0
    assert decided([said("Cannot tell")], [accepted(label="Cancer")]).table["basis"].tolist() == ["folder"]


def test_a_folder_is_a_label_that_a_reader_overrules():
    assert decided([], [accepted(label="Cancer")]).table["label"].tolist() == [1]
    assert decided([said("Non-Cancer")], [accepted(label="Cancer")]).table["label"].tolist() == [0]
    assert len(decided([], [accepted()])) == 0


def test_folders_of_both_labels_teach_nothing_until_a_reader_decides():
    both = [accepted(label="Cancer"), accepted(label="Non-Cancer")]
    assert decided([], both).left_out == {"in folders of both labels": {SCAN}}
    assert decided([said("Cancer")], both).table["label"].tolist() == [1]


def test_what_is_no_brain_mri_is_not_learnt_as_healthy():
    found = decided([said("Not a brain MRI")], [accepted(label="Non-Cancer")])
    assert len(found) == 0
    assert found.left_out == {"no brain MRI, a reader says": {SCAN}}


@pytest.mark.parametrize("label", ["Cancer", "Unlabelled"])
def test_the_sample_that_measures_is_never_learnt_from(label):
    measures = named(sampled=True)
    found = decided([said("Non-Cancer", scan=measures)], [accepted(measures, label)])
    assert len(found) == 0
    assert found.left_out == {"in the sample that measures": {measures}}


def test_feedback_on_a_scan_that_was_never_accepted_is_passed_over():
    assert len(decided([said("Cancer")], [])) == 0


def test_the_tables_and_the_scans_bucket_are_read(stack, monkeypatch):
    source = f"test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("SCANS_BUCKET", BUCKETS["scans"])
    corrected, sorted_by_folder, unread = (named(seed=uuid.uuid4().int) for _ in range(3))
    content = encode(healthy_slices()[3], "PNG")
    for name, label in ((corrected, "Unlabelled"), (sorted_by_folder, "Cancer"), (unread, "Unlabelled")):
        at = NOON.isoformat()
        row = accepted(name, label, source) | {"content_sha256": name, "format": "PNG", "page": 0, "pages": 1}
        row |= {"width": 224, "height": 224, "size": 9000, "uploaded_at": at, "accepted_at": at}
        bigquery.append("scans", row, key=name)
        storage.create(BUCKETS["scans"], row["object_name"], content, "image/png")
    for reader_id, reading in (("one", "Cancer"), (None, "Cancer")):
        given = {
            "feedback_id": str(uuid.uuid4()),
            "scan_id": corrected,
            "model_version": "m",
            "prediction": "Non-Cancer",
        }
        given |= {"probability": 0.2, "agrees": False, "reading": reading, "reader_id": reader_id}
        bigquery.append("feedback", given | {"given_at": NOON.isoformat()}, key=given["feedback_id"])
    found = corrections.read_corrections()
    mine = (found.table["source"] == source).to_numpy()
    known = found.table[mine].set_index("scan_id")
    assert set(known.index) == {corrected, sorted_by_folder}
    assert (known.loc[corrected, "basis"], known.loc[corrected, "readers"]) == ("corrected", 2)
    assert known.loc[sorted_by_folder, "basis"] == "folder"
    scans = corrections.read_images(found, mine)
    assert (scans.images == as_bytes(prepare(healthy_slices()[3]))).all()
    assert set(scans.table["label"]) == {1}
