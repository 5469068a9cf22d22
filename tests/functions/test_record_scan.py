"""record_scan: one row a fact, however often and in whatever order it comes; a call when a series may be complete."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import requests
from functions_framework import create_app
from werkzeug.serving import make_server

from local.emulators import tasks as stand_in
from local.samples import encode, healthy_slices
from local.stack.processes import free_port
from shared.events import ScanRejected
from shared.gcp import bigquery, tasks
from shared.ml.series_summary import BUCKET_S, call_at
from tests.functions.conftest import ROOT, Cloud, Push, client, push
from tests.support.events import pushed_message, scan_accepted, scan_scored, stored_scan
from tests.support.series import summarised
from tests.support.servers import python, running
from tests.support.waiting import wait_until

TABLES = ("scans", "rejections", "series_slices", "slice_scores", "series")
QUIET_S = 1


@pytest.fixture
def record_scan(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Push:
    monkeypatch.setenv("SERIES_QUIET_SECONDS", str(QUIET_S))
    return push("record_scan")


def rejection(file_id: str) -> ScanRejected:
    return ScanRejected(
        file_id=file_id,
        label="Cancer",
        source="test",
        reason="truncated",
        generation=1,
        size=10,
        uploaded_at="2026-01-01T00:00:00+00:00",
        rejected_at="2026-01-01T00:00:01+00:00",
    )


def test_facts_delivered_twice_and_out_of_order_are_one_row_each(cloud: Cloud, record_scan: Push) -> None:
    first = stored_scan(cloud.buckets["scans"], encode(healthy_slices()[0], "PNG"))
    second = stored_scan(cloud.buckets["scans"], encode(healthy_slices()[1], "PNG"))
    for event in (second, rejection("f" * 64), first, second, rejection("f" * 64), first):
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT * FROM {dataset}.scans")
    assert sorted(row["scan_id"] for row in rows) == sorted([first.scan_id, second.scan_id])
    assert {row["object_name"] for row in rows} == {first.name, second.name}
    (rejected,) = bigquery.query("SELECT file_id, reason FROM {dataset}.rejections")
    assert rejected == {"file_id": "f" * 64, "reason": "truncated"}


def test_slice_of_a_series_has_its_place_and_score_in_narrow_tables(cloud: Cloud, record_scan: Push) -> None:
    event = scan_accepted(scan_id="1" * 64, series_id="2" * 64, study_id="3" * 64, slice_position_mm=7.5, plane="axial")
    scored = scan_scored(scan_id="1" * 64, series_id="2" * 64)
    for fact in (event, scored, event, scored):
        assert record_scan(asdict(fact), event=fact.TOPIC) == 200
    (row,) = bigquery.query("SELECT * FROM {dataset}.series_slices WHERE series_id = @id", id="2" * 64)
    assert (row["slice_position_mm"], row["plane"], row["study_id"]) == (7.5, "axial", "3" * 64)
    (row,) = bigquery.query("SELECT * FROM {dataset}.slice_scores WHERE series_id = @id", id="2" * 64)
    assert (row["probability"], row["model_version"]) == (scored.probability, scored.model_version)


def test_same_slice_belongs_to_each_of_its_series(cloud: Cloud, record_scan: Push) -> None:
    for series_id in ("4" * 64, "5" * 64):
        event = scan_accepted(scan_id="6" * 64, series_id=series_id)
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT series_id FROM {dataset}.series_slices WHERE scan_id = @id", id="6" * 64)
    assert {row["series_id"] for row in rows} == {"4" * 64, "5" * 64}


def test_scan_of_no_series_is_in_neither(cloud: Cloud, record_scan: Push) -> None:
    for fact in (scan_accepted(scan_id="7" * 64), scan_scored(scan_id="7" * 64)):
        assert record_scan(asdict(fact), event=fact.TOPIC) == 200
    for table in ("series_slices", "slice_scores"):
        assert not bigquery.query(f"SELECT 1 FROM {{dataset}}.{table} WHERE scan_id = @id", id="7" * 64)


def test_series_is_one_row_a_revision(cloud: Cloud, record_scan: Push) -> None:
    answer = summarised([b"slice"])
    for event in (answer, answer, replace(answer, revision="f" * 64, previous_revision=answer.revision)):
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    rows = bigquery.query("SELECT * FROM {dataset}.series WHERE series_id = @id", id=answer.series_id)
    assert {row["revision"] for row in rows} == {"e" * 64, "f" * 64}
    assert rows[0]["suspicious_scan_ids"] == [answer.suspicious[0].scan_id]


def test_message_that_is_no_event_of_ours_is_retried(cloud: Cloud, record_scan: Push) -> None:
    assert record_scan({"hello": "world"}, event="something-else") == 500


@pytest.fixture
def kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in.Tasks]:
    """Tasks that call summarise_series, which nothing else calls."""
    app = create_app("summarise_series", str(ROOT / "functions" / "summarise_series" / "main.py"), "http")
    function, port = make_server("127.0.0.1", 0, app, threaded=True), free_port()
    threading.Thread(target=function.serve_forever, daemon=True).start()
    kept = stand_in.Tasks([stand_in.queue(f"summarise_series=http://127.0.0.1:{function.server_port}")])
    server = stand_in.started(port, kept)
    monkeypatch.setenv("TASKS_EMULATOR_HOST", f"127.0.0.1:{port}")
    tasks.client.cache_clear()
    yield kept
    tasks.client.cache_clear()
    server.stop(grace=None)
    function.shutdown()


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody takes tasks."""
    monkeypatch.setenv("TASKS_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    tasks.client.cache_clear()
    yield
    tasks.client.cache_clear()


def accepted(series: str, number: int):
    scan_id = f"{series[0]}{number:063d}"
    return scan_accepted(
        scan_id=scan_id, series_id=series, name=f"Cancer/{scan_id}.png", slice_position_mm=5.0 * number
    )


def record(record_scan: Push, series: str, slices: int, scored: int) -> None:
    for number in range(slices):
        event = accepted(series, number)
        assert record_scan(asdict(event), event=event.TOPIC) == 200
    for number in range(scored):
        score(record_scan, series, number)


def score(record_scan: Push, series: str, number: int) -> None:
    event = scan_scored(scan_id=f"{series[0]}{number:063d}", series_id=series)
    assert record_scan(asdict(event), event=event.TOPIC) == 200


def answered(cloud: Cloud, series: str) -> bool:
    return series in {event["series_id"] for event in cloud.pull("series-summarised")}


def test_series_is_answered_though_no_tick_ever_comes(cloud: Cloud, record_scan: Push, kept: stand_in.Tasks) -> None:
    record(record_scan, "a" * 64, 3, 3)
    wait_until(lambda: answered(cloud, "a" * 64))


def test_score_after_the_quiet_time_is_answered_too(cloud: Cloud, record_scan: Push, kept: stand_in.Tasks) -> None:
    record(record_scan, "b" * 64, 3, 2)
    last = max(int(name.rpartition("-")[2]) for name in kept.names)
    wait_until(lambda: time.time() > last + 1)  # the tasks of the slices went without an answer
    assert not answered(cloud, "b" * 64)
    score(record_scan, "b" * 64, 2)
    wait_until(lambda: answered(cloud, "b" * 64))


def test_ten_slices_of_a_moment_make_one_task(record_scan: Push, kept: stand_in.Tasks) -> None:
    events = [accepted("c" * 64, number) for number in range(10)]
    began = call_at(time.time(), QUIET_S)
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda event: record_scan(asdict(event), event=event.TOPIC), events)) == {200}
    moments = range(began, call_at(time.time(), QUIET_S) + 1, BUCKET_S)
    assert {int(name.rpartition("-")[2]) for name in kept.names} <= set(moments)
    assert 0 < len(kept.names) <= len(moments) < len(events)


def test_tick_alone_answers_if_every_task_is_lost(cloud: Cloud, record_scan: Push, lost: None) -> None:
    record(record_scan, "d" * 64, 3, 3)
    tick = client("summarise_series", "http")
    wait_until(lambda: tick.post("/").json["summarised"] and answered(cloud, "d" * 64))


def test_record_scan_killed_between_row_and_task_makes_both_when_it_is_delivered_again(
    cloud: Cloud, record_scan: Push, kept: stand_in.Tasks, tmp_path: Path
) -> None:
    event = accepted("e" * 64, 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the task, and answers nothing
        variables = os.environ | {
            "TASKS_EMULATOR_HOST": f"127.0.0.1:{silent.getsockname()[1]}",
            "PYTHONPATH": str(ROOT),
        }
        command = python("-m", "functions_framework", "--source", "functions/record_scan/main.py")
        command += [
            "--target",
            "record_scan",
            "--signature-type",
            "cloudevent",
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
        ]
        with running(command, tmp_path / "log", "/", environment=variables) as function:
            body = pushed_message(json.dumps(asdict(event)).encode(), event=event.TOPIC)
            threading.Thread(target=_post, args=(function.url, body), daemon=True).start()
            wait_until(lambda: rows("e" * 64) == 1)
            function.process.send_signal(signal.SIGKILL)
    assert not kept.names
    assert record_scan(asdict(event), event=event.TOPIC) == 200
    score(record_scan, "e" * 64, 0)
    assert kept.names
    assert rows("e" * 64) == 1
    wait_until(lambda: answered(cloud, "e" * 64))


def _post(url: str, body: dict) -> None:
    with suppress(requests.ConnectionError):
        requests.post(url, json=body, timeout=60)


def rows(series: str) -> int:
    (found,) = bigquery.query("SELECT COUNT(*) AS n FROM {dataset}.series_slices WHERE series_id = @id", id=series)
    return found["n"]
