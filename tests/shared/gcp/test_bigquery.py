"""Rows are appended in groups, each caller hears of its own row, and values never become SQL."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from local.stack.provision import make_tables
from local.stack.system import PROJECT, Stack
from shared.gcp import bigquery


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    name = f"test_{uuid.uuid4().hex[:8]}"
    make_tables(PROJECT, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASET", name)
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
