"""The review queue: which scans wait for a reader, and what one key does."""

import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import inference_client
from dashboard.queries import feedback, releases, review
from local import samples
from local.stack.system import BUCKETS, Stack
from shared.gcp import bigquery, storage
from shared.review_sample import in_review_sample
from tests.dashboard.conftest import NOW, record_scan, words

Page = Callable[..., AppTest]


def drawn(sampled: bool) -> str:
    """Return a new scan's id that is in the random sample, or is not."""
    names = (hashlib.sha256(uuid.uuid4().bytes).hexdigest() for _ in range(10_000))
    return next(name for name in names if in_review_sample(name) == sampled)


def record(source: str, sampled: bool = False, label: str = "Unlabelled", **answer: object) -> str:
    """Write an accepted scan and what a release answered; its id comes back."""
    scan_id = drawn(sampled)
    known = {"scan_id": scan_id, "object_name": f"{label}/{scan_id}.png", "content_sha256": scan_id, "label": label}
    record_scan(source, **known)
    at = NOW.isoformat()
    row = {"scan_id": scan_id, "model_version": "test-1", "prediction": "Non-Cancer", "probability": 0.1}
    row |= {"threshold": 0.5, "uncertain": False, "calibration": "release", "uploaded_at": at, "predicted_at": at}
    bigquery.append("predictions", row | answer, key=scan_id)
    return scan_id


def say(scan_id: str, reading: str, reader: str, answered: str = "Non-Cancer", **columns: object) -> None:
    """Write what a reader says of a scan."""
    row = {
        "feedback_id": feedback.feedback_id(reader, scan_id, "test-1"),
        "scan_id": scan_id,
        "model_version": "test-1",
        "prediction": answered,
        "probability": 0.1,
        "agrees": reading == answered,
        "reading": reading,
        "reader_id": feedback.reader_id(reader),
        "given_at": NOW.isoformat(),
    }
    bigquery.append("feedback", row | columns, key=str(uuid.uuid4()))


def waiting(kind: str, source: str, reader: str = "me", foreign: list[str] | None = None) -> list[str]:
    return [row["scan_id"] for row in review.queue(kind, source, feedback.reader_id(reader), foreign or [])]


def test_each_part_of_the_queue_has_its_scans(system: Stack, source: str) -> None:
    plain = record(source)
    doubtful = record(source, uncertain=True, probability=0.45)
    nearer = record(source, uncertain=True, probability=0.49)
    refused = record(source, prediction="Not a brain MRI")
    contradicted = record(source, label="Cancer")
    sampled = record(source, sampled=True)
    corrected = record(source)
    say(corrected, "Cancer", "somebody")
    assert waiting("Uncertain", source) == [nearer, doubtful]
    assert set(waiting("Foreign", source, foreign=[plain])) == {refused, plain}
    assert set(waiting("Contradicted", source)) == {contradicted, corrected}
    assert waiting("Random sample", source) == [sampled]
    assert waiting("Uncertain", "another-source") == []


def test_the_sample_that_bigquery_draws_is_the_one_that_training_leaves_out(system: Stack, source: str) -> None:
    recorded = {record(source, sampled=place % 2 == 0) for place in range(6)}
    assert set(waiting("Random sample", source)) == {name for name in recorded if in_review_sample(name)}


def test_what_i_have_read_does_not_come_again_and_others_still_see_it(system: Stack, source: str) -> None:
    scan = record(source, uncertain=True)
    say(scan, "Cannot tell", "me")
    assert waiting("Uncertain", source) == []
    (row,) = review.queue("Uncertain", source, feedback.reader_id("you"), [])
    assert (row["cannot_tell"], row["disagreed"]) == (1, 0)


def test_two_readers_who_disagree_bring_a_scan_back_to_a_third(system: Stack, source: str) -> None:
    scan = record(source)
    say(scan, "Non-Cancer", "one")
    assert waiting("Contradicted", source) == []
    say(scan, "Cancer", "two")
    review.queue.clear()
    (row,) = review.queue("Contradicted", source, feedback.reader_id("three"), [])
    assert (row["scan_id"], row["cancer"], row["healthy"]) == (scan, 1, 1)


def test_what_a_challenger_calls_otherwise_is_asked_and_first_what_another_has_read(system: Stack, source: str) -> None:
    alike, differing, read = (record(source) for _ in range(3))
    for scan, called in ((alike, "Non-Cancer"), (differing, "Cancer"), (read, "Cancer")):
        row = {"scan_id": scan, "model_version": "test-2", "prediction": called, "probability": 0.7, "threshold": 0.5}
        row |= {"role": "challenger", "source": source, "uploaded_at": NOW.isoformat()}
        bigquery.append("predictions", row | {"predicted_at": datetime.now(UTC).isoformat()}, key=f"{scan}/challenger")
    say(read, "Non-Cancer", "another")
    assert waiting("Challenged", source) == [read, differing]
    assert waiting("Contradicted", source) == []


def test_feedback_from_before_readers_had_ids_still_counts(system: Stack, source: str) -> None:
    scan = record(source)
    say(scan, "Cancer", "one", reader_id=None)
    assert waiting("Contradicted", source) == [scan]


def test_who_cannot_tell_neither_agrees_nor_disagrees(system: Stack, source: str) -> None:
    version = f"v-{uuid.uuid4().hex[:8]}"
    scan = record(source, model_version=version)
    say(scan, "Cannot tell", "one", model_version=version)
    say(scan, "Non-Cancer", "two", model_version=version)
    (row,) = [row for row in releases.versions() if row["model_version"] == version]
    assert (row["feedback"], row["agreed"]) == (1, 1)


@pytest.fixture
def readable(system: Stack, source: str) -> str:
    """A scan of the queue that can be looked at."""
    scan = record(source, uncertain=True)
    content = samples.encode(samples.healthy_slices()[3], "PNG")
    storage.create(BUCKETS["scans"], f"Unlabelled/{scan}.png", content, "image/png")
    return scan


@pytest.mark.parametrize(("button", "agrees"), [("Agree", True), ("Disagree", False), ("Cannot tell", False)])
def test_one_press_stores_an_opinion_and_brings_the_next(
    page: Page, readable: str, source: str, button: str, agrees: bool
) -> None:
    app = page("review", kind="Uncertain")
    app.selectbox(key="review source").set_value(source).run()
    assert not app.exception
    assert readable[:8] in words(app)
    next(each for each in app.button if each.label == button).click()
    app.run()
    assert not app.exception
    assert "Nothing waits here" in words(app)
    (row,) = bigquery.query("SELECT * FROM `{dataset}.feedback` WHERE scan_id = @id", id=readable)
    assert (row["agrees"], bool(row["reader_id"])) == (agrees, True)
    assert row["reading"] == {"Agree": row["prediction"], "Cannot tell": "Cannot tell"}.get(button, row["reading"])
    if button == "Disagree":
        assert row["reading"] not in (row["prediction"], "Cannot tell")


def test_the_model_page_says_how_good_the_release_in_service_is(page: Page, source: str) -> None:
    version = inference_client.model()["version"]
    for reading, answered in (("Cancer", "Cancer"), ("Cancer", "Non-Cancer"), ("Non-Cancer", "Non-Cancer")):
        scan = record(source, sampled=True, prediction=answered, model_version=version)
        say(scan, reading, "one", answered, model_version=version)
    app = page("model", part="In service")
    assert not app.exception
    shown = next(each.value for each in [*app.dataframe, *app.table] if "Sensitivity" in each.value.columns)
    row = shown[shown["Source"] == source].iloc[0]
    assert row["Scans"] == "3"
    assert row["Sensitivity"].startswith("50.0% (")
    assert row["Specificity"].startswith("100.0% (")


def test_the_address_says_which_scans(page: Page, system: Stack) -> None:
    app = page("review", kind="Contradicted")
    assert not app.exception
    assert app.get("button_group")[0].value == "Contradicted"
