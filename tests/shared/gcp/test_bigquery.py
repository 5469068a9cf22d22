"""Rows are appended in groups, each caller hears of its own row, and values never become SQL."""

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest

from local.stack.provision import make_buckets
from local.stack.system import Stack
from shared.gcp import bigquery, storage
from tests.support.datasets import own_dataset


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> Iterator[str]:
    with own_dataset(["rejections", "preprocessing_errors"]) as name:
        yield name


def row(file_id: str, **changes: object) -> dict:
    facts = {
        "file_id": file_id,
        "label": "Cancer",
        "source": "test",
        "reason": "blank",
        "generation": 1,
        "size": 1,
        "uploaded_at": "2026-01-01T00:00:00+00:00",
        "rejected_at": "2026-01-01T00:00:00+00:00",
    }
    return facts | changes


def stored(prefix: str) -> list[dict]:
    sql = "SELECT file_id, recorded_at FROM {dataset}.rejections WHERE STARTS_WITH(file_id, @prefix)"
    return bigquery.query(sql, prefix=prefix)


def test_rows_of_a_crowd_share_requests_and_are_all_stored(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    insert = bigquery.client().insert_rows_json

    def counted(table: str, rows: list, **options: object) -> list:
        requests.append(len(rows))
        return insert(table, rows, **options)

    monkeypatch.setattr(bigquery.client(), "insert_rows_json", counted)
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda n: bigquery.append("rejections", row(f"crowd-{n}"), key=f"crowd-{n}"), range(120)))
    assert len(stored("crowd-")) == sum(requests) == 120
    assert len(requests) <= 20


def test_refused_row_fails_its_own_caller_alone(dataset: str) -> None:
    def append(n: int) -> str:
        bad = {"generation": "not a number"} if n == 3 else {}
        try:
            bigquery.append("rejections", row(f"mixed-{n}", **bad), key=f"mixed-{n}")
        except bigquery.InsertError as error:
            return str(error)
        return "stored"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(append, range(8)))
    assert [n for n, answer in enumerate(answers) if answer != "stored"] == [3]
    assert "generation" in answers[3]
    assert "not a number" not in answers[3]
    assert len(stored("mixed-")) == 7


def test_view_keeps_the_latest_row_of_a_key(dataset: str) -> None:
    for attempt, reason in enumerate(("blank", "truncated")):
        bigquery.append("rejections", row("again", reason=reason), key=f"again-{attempt}")
    (kept,) = bigquery.query("SELECT reason FROM {dataset}.rejections WHERE file_id = 'again'")
    assert kept["reason"] == "truncated"


def test_nothing_is_asked_without_a_limit_of_bytes(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BigQuery gets it: it refuses a query that would read more, before it costs anything."""
    sent = []
    seen = {"response": [lambda answer, *_, **__: sent.append(answer.request)]}
    monkeypatch.setattr(bigquery.client()._http, "hooks", seen)
    bigquery.query("SELECT 1 AS one")
    assert len(list(bigquery.stream("SELECT 1 AS one"))) == 1
    bigquery.count("rejections", "TRUE")
    bigquery.delete("rejections", "FALSE")
    asked = [json.loads(request.body) for request in sent if request.method == "POST"]
    limits = [int(each.get("configuration", {}).get("query", each)["maximumBytesBilled"]) for each in asked]
    assert limits == [bigquery.MAX_BYTES_BILLED] * 3 + [2**40]


def test_values_are_parameters_not_sql(dataset: str) -> None:
    assert stored("' OR '1'='1") == []
    (answer,) = bigquery.query(
        "SELECT @text AS text, @flag AS flag, @number AS number, @at AS moment, ARRAY_LENGTH(@many) AS many",
        text="it's",
        flag=True,
        number=0.5,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        many=["a", "b"],
    )
    assert answer == {
        "text": "it's",
        "flag": True,
        "number": 0.5,
        "moment": datetime(2026, 1, 1, tzinfo=UTC),
        "many": 2,
    }


def test_table_that_does_not_exist_is_an_error_to_retry(dataset: str) -> None:
    with pytest.raises(bigquery.BigQueryError):
        bigquery.append("no_such_table", row("x"), key="x")


def appended(rows: list[dict]) -> list[str]:
    """What each of some concurrent callers was told, in their order."""

    def append(number: int) -> str:
        try:
            bigquery.append("rejections", rows[number], key=rows[number]["file_id"])
        except bigquery.BigQueryError as error:
            return type(error).__name__
        return "stored"

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(append, range(len(rows))))


def test_number_that_json_has_not_fails_its_own_caller_alone(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery, "_GATHER_S", 0.3)  # so that all of them travel together
    insert = bigquery.client().insert_rows_json

    def strict(table: str, rows: list[dict], **options: object) -> list:
        """BigQuery answers 400 to a body with NaN in it, where the stand-in reads it."""
        if any(row["size"] != row["size"] for row in rows):
            raise BadRequest("Invalid JSON payload received. Unexpected token.")
        return insert(table, rows, **options)

    monkeypatch.setattr(bigquery.client(), "insert_rows_json", strict)
    rows = [row(f"nan-{number}", size=float("nan") if number == 5 else 1) for number in range(8)]
    assert appended(rows) == ["InsertError" if number == 5 else "stored" for number in range(8)]
    assert len(stored("nan-")) == 7


def test_refusal_without_a_location_is_told_to_its_caller(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(table: str, rows: list[dict], **options: object) -> list:
        return [{"index": 0, "errors": [{"reason": "stopped"}]}]

    monkeypatch.setattr(bigquery.client(), "insert_rows_json", refuse)
    with pytest.raises(bigquery.InsertError, match="row: stopped"):
        bigquery.append("rejections", row("nowhere"), key="nowhere")


def test_answer_that_makes_no_sense_reaches_every_caller(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery.client(), "insert_rows_json", lambda *_, **__: [{"no": "index"}])
    with pytest.raises(KeyError):
        bigquery.append("rejections", row("lost"), key="lost")


def test_caller_does_not_wait_for_ever(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(bigquery, "_STORED_WITHIN_S", 0.05)
    monkeypatch.setattr(bigquery.client(), "insert_rows_json", lambda *_, **__: [{}] * release.wait(30))
    with pytest.raises(bigquery.BigQueryError):
        bigquery.append("rejections", row("late"), key="late")
    release.set()


def test_objects_loaded_again_are_rows_once(dataset: str) -> None:
    bucket = f"load-{dataset}".replace("_", "-")
    make_buckets({"load": bucket})
    times = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    texts = {name: pa.array(["x"]) for name in ("manifest", "scan_id", "label", "source", "reason")}
    table = pa.table(texts | {"recorded_at": times})
    schema = pa.schema([field.with_nullable(False) for field in table.schema])
    file = io.BytesIO()
    pq.write_table(table.cast(schema), file)
    storage.write(bucket, "rows.parquet", file.getvalue(), "application/vnd.apache.parquet")
    for _ in range(2):
        assert bigquery.load("preprocessing_errors", [f"gs://{bucket}/rows.parquet"]) == 1
    assert len(bigquery.query("SELECT reason FROM {dataset}.preprocessing_errors_raw")) == 1


def test_nothing_to_load_is_no_row(dataset: str) -> None:
    assert bigquery.load("preprocessing_errors", []) == 0


def test_field_whose_column_is_not_there_yet_does_not_fail_the_row(dataset: str) -> None:
    bigquery.append("rejections", row("early", colour="blue"), key="early")
    assert len(stored("early")) == 1


def test_late_retry_of_an_older_upload_does_not_replace_what_was_said_last(dataset: str) -> None:
    for source, uploaded_at in (("ward-2", "2026-01-02T00:00:00+00:00"), ("ward-1", "2026-01-01T00:00:00+00:00")):
        bigquery.append("rejections", row("late", source=source, uploaded_at=uploaded_at), key=f"late-{source}")
    (kept,) = bigquery.query("SELECT source FROM {dataset}.rejections WHERE file_id = 'late'")
    assert kept["source"] == "ward-2"
