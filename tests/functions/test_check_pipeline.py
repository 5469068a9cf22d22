"""check_pipeline: known files through the whole pipeline; a miss is told, and nobody counts them."""

import uuid

import pytest

from local.stack.provision import SAMPLES, make_buckets, make_samples
from local.stack.system import Stack
from shared.gcp import bigquery, storage
from shared.scan import file_id
from tests.functions.conftest import client
from tests.support.waiting import wait_until

PATIENCE = 240
IDS = [file_id((SAMPLES / name).read_bytes()) for name in ("head.jpg", "lesion.png", "cat.jpg")]


def check(within_s: float) -> dict[str, str]:
    answer = client("check_pipeline", "http").post("/", query_string={"within_s": within_s})
    assert answer.status_code == 200
    missed: dict[str, str] = answer.get_json()["missed"]
    return missed


def rows(table: str) -> list[bigquery.Row]:
    sql = f"SELECT source FROM {{dataset}}.{table} WHERE scan_id IN UNNEST(@ids)"
    return bigquery.query(sql, ids=IDS)


def test_known_files_are_answered_as_they_must_be_and_no_view_shows_them(stack: Stack):
    assert check(PATIENCE) == {}
    wait_until(lambda: len(rows("features_raw")) >= len(IDS), PATIENCE)
    for table in ("scans", "predictions", "features"):
        assert {row["source"] for row in rows(f"{table}_raw")} == {"synthetic"}
        assert rows(table) == []


def test_a_second_check_asks_for_new_answers(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    assert check(PATIENCE) == {}
    nowhere = {"uploads": f"uploads-{uuid.uuid4().hex[:8]}"}  # a bucket that announces nothing
    make_buckets(nowhere)
    monkeypatch.setenv("UPLOADS_BUCKET", nowhere["uploads"])
    assert check(0) == dict.fromkeys(("head.jpg", "lesion.png", "cat.jpg"), "There is no answer.")


def test_a_wrong_answer_is_a_miss(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    changed = {"models": f"models-{uuid.uuid4().hex[:8]}"}
    make_buckets(changed)
    storage.create(changed["models"], "synthetic/cat.jpg", (SAMPLES / "head.jpg").read_bytes(), "image/jpeg")
    make_samples(changed["models"])  # leaves what is there
    monkeypatch.setenv("MODELS_BUCKET", changed["models"])
    assert check(PATIENCE) == {"cat.jpg": "It is called Non-Cancer, and is Not a brain MRI."}
