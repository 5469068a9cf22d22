"""record_dead_letter: what a step has given up is one row, which says who gave it up and what it was about."""

import pytest

from shared.gcp import bigquery
from tests.functions.conftest import Cloud, Push, push

TABLES = ("dead_letters",)
ROWS = "SELECT * FROM {dataset}.dead_letters WHERE subscription = @subscription"


def given_up_by(subscription: str, published_at: str = "2026-01-01T00:00:00Z") -> dict[str, str]:
    """The attributes that Pub/Sub gives a dead letter."""
    source = {"Subscription": subscription, "TopicPublishTime": published_at, "DeliveryCount": "10"}
    return {f"CloudPubSubDeadLetterSource{name}": text for name, text in source.items()}


@pytest.fixture(scope="module")
def record_dead_letter(cloud: Cloud) -> Push:
    return push("record_dead_letter")


def test_a_letter_delivered_twice_is_one_row(cloud: Cloud, record_dead_letter: Push) -> None:
    letter = {"scan_id": "a" * 64, "label": "Cancer"}
    for _ in range(2):
        assert record_dead_letter(letter, **given_up_by("twice-on-scan-accepted")) == 200
    (row,) = bigquery.query(ROWS, subscription="twice-on-scan-accepted")
    assert (row["scan_id"], row["attempts"], row["generation"]) == ("a" * 64, 10, None)


def test_the_same_event_given_up_again_after_a_replay_is_another_row(cloud: Cloud, record_dead_letter: Push) -> None:
    for published_at in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"):
        assert record_dead_letter({"scan_id": "b" * 64}, **given_up_by("again-on-scan-accepted", published_at)) == 200
    assert len(bigquery.query(ROWS, subscription="again-on-scan-accepted")) == 2


def test_an_upload_is_told_by_its_generation_and_never_by_its_name(cloud: Cloud, record_dead_letter: Push) -> None:
    upload = cloud.upload("Cancer/Jane Doe.png", b"x")
    assert record_dead_letter(upload, **given_up_by("validate-scan-on-scan-uploaded")) == 200
    (row,) = bigquery.query(ROWS, subscription="validate-scan-on-scan-uploaded")
    assert (row["scan_id"], row["generation"]) == (None, int(upload["generation"]))
    assert "Jane" not in str(row)


def test_a_rejected_file_is_told_by_its_id(cloud: Cloud, record_dead_letter: Push) -> None:
    rejected = {"file_id": "c" * 64, "generation": 17, "reason": "truncated"}
    assert record_dead_letter(rejected, **given_up_by("record-scan-on-scan-rejected")) == 200
    (row,) = bigquery.query(ROWS, subscription="record-scan-on-scan-rejected")
    assert (row["scan_id"], row["generation"]) == ("c" * 64, 17)


@pytest.mark.parametrize("content", ["no object", 7, [1]])
def test_a_letter_about_nothing_we_know_is_counted_too(cloud: Cloud, record_dead_letter: Push, content: object) -> None:
    subscription = f"unknown-{type(content).__name__}"
    assert record_dead_letter(content, **given_up_by(subscription)) == 200
    (row,) = bigquery.query(ROWS, subscription=subscription)
    assert row["scan_id"] is None


@pytest.mark.parametrize(
    ("subscription", "late"), [("score-scan-on-scan-accepted", True), ("write-features-on-scan-scored", False)]
)
def test_a_scan_that_nobody_scores_is_told_to_the_objective(
    cloud: Cloud, record_dead_letter: Push, caplog: pytest.LogCaptureFixture, subscription: str, late: bool
) -> None:
    with caplog.at_level("WARNING"):
        assert record_dead_letter({"scan_id": "e" * 64}, **given_up_by(subscription)) == 200
    told = [record for record in caplog.records if record.message == "never scored"]
    assert [record.seconds > 0 for record in told] == ([True] if late else [])


def test_a_message_that_nobody_gave_up_is_retried(cloud: Cloud, record_dead_letter: Push) -> None:
    assert record_dead_letter({"scan_id": "d" * 64}) == 500
