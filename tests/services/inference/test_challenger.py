"""A challenger answers beside the champion, is compared on the same scans, and is gone where it leaves its band."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import requests
from google.cloud import storage

from services.inference.challenger import Challenger, answering
from services.inference.served_models import BUNDLED, bundled_release
from services.inference.worker_pool import Overloaded, WorkerPool
from shared.imaging.decoding import decode_scan
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model
from shared.ml.release_files import GRAPH_FILE
from tests.services.inference.conftest import counted
from tests.support.heads import encoded, head
from tests.support.releases import point, pointed, release, served
from tests.support.servers import Server
from tests.support.waiting import wait_until

PATIENCE = 60
FAILS = {"tumour_types": ("glioma",)}
"""A card of another number of types than the graph has: every prediction raises."""
ALWAYS_CANCER = {"threshold": 0.0, "ood_limit": 1e9}


def model(version: str, **changes: object) -> Model:
    """The bundled graph under another card."""
    return Model(replace(bundled_release().card, version=version, **changes), (BUNDLED / GRAPH_FILE).read_bytes())


@pytest.fixture(scope="module")
def tensor(jpeg: bytes) -> np.ndarray:
    return prepare(decode_scan(jpeg).pages[0])


def challenger(share: float = 0, **changes: object) -> tuple[Challenger, list[str]]:
    """A challenger, and the reasons for which it left its band."""
    reasons: list[str] = []
    return Challenger(model("new", **changes), share, lambda _, why: reasons.extend(why)), reasons


def test_in_shadow_the_champion_answers_and_names_the_challenger(tensor):
    champion, (new, _) = model("old"), challenger()
    answer = answering(champion, new, "a series")(tensor)
    assert (answer.model, answer.role, answer.challenger_version) == (champion, "champion", "new")
    beside = new.in_shadow(champion, tensor)
    assert (beside.model, beside.role) == (new.model, "challenger")


def test_without_a_challenger_nobody_is_named(tensor):
    assert answering(model("old"), None, "a series")(tensor).challenger_version is None


def test_in_the_canary_the_challenger_answers_its_share_alone(tensor):
    champion, (new, reasons) = model("old"), challenger(0.5)
    answers = {unit: answering(champion, new, unit)(tensor) for unit in map(str, range(40))}
    assert {answer.role for answer in answers.values()} == {"champion", "canary"}
    assert all((answer.role == "canary") == new.answers(unit) for unit, answer in answers.items())
    assert not reasons


def test_a_challenger_that_fails_is_counted_and_the_champion_answers(tensor):
    champion, (new, reasons) = model("old"), challenger(1, **FAILS)
    answers = [answering(champion, new, "a series")(tensor) for _ in range(3)]
    assert {(answer.model, answer.role) for answer in answers} == {(champion, "champion")}
    assert new.in_shadow(champion, tensor) is None
    assert "failed on 3 of 3" in reasons[0]


def test_what_is_no_probability_is_a_failure(tensor, monkeypatch):
    champion, (new, _) = model("old"), challenger(1)
    broken = replace(champion.predict(tensor), probability=float("nan"))
    monkeypatch.setattr(new.model, "predict", lambda _: broken)
    assert answering(champion, new, "a series")(tensor).role == "champion"


def test_the_champions_own_failure_is_not_hidden(tensor):
    champion, (new, _) = model("old", **FAILS), challenger(1)
    with pytest.raises(ValueError):
        answering(champion, new, "a series")(tensor)


def test_a_comparison_waits_for_an_idle_worker_and_holds_up_none():
    async def scenario() -> None:
        pool, busy, free = WorkerPool(1, 30), threading.Event(), threading.Event()
        assert await pool.run_idle(lambda: 7) == 7
        slow = asyncio.create_task(pool.run_idle(partial(free.wait, PATIENCE)))
        await asyncio.sleep(0)
        assert await pool.run(lambda: 8) == 8  # while the comparison still runs
        with pytest.raises(Overloaded):
            await pool.run_idle(lambda: 9)
        free.set()
        await slow
        working = asyncio.create_task(pool.run(partial(busy.wait, PATIENCE)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await pool.run_idle(lambda: 9)
        busy.set()
        await working
        pool.close()

    asyncio.run(scenario())


@pytest.fixture
def following(watching: Server, watched_bucket: storage.Bucket) -> Server:
    """The service, watching a bucket in which version sure is current."""
    release(watched_bucket, "sure", **ALWAYS_CANCER)
    point(watched_bucket, "sure")
    wait_until(lambda: served(watching) == "sure", PATIENCE)
    return watching


def ask(server: Server, scan: bytes, path: str = "/v1/predict", **parameters: str) -> requests.Response:
    return requests.post(server.url + path, params=parameters, data=scan, timeout=30)


def test_a_release_goes_from_shadow_over_the_canary_to_all(
    following: Server, watched_bucket: storage.Bucket, jpeg: bytes
):
    assert ask(following, jpeg, "/v1/challenger").status_code == 204
    assert ask(following, jpeg).json()["role"] == "champion"
    release(watched_bucket, "c", **ALWAYS_CANCER)
    point(watched_bucket, "sure", challenger="c", share=0)
    wait_until(lambda: ask(following, jpeg).json().get("challenger_version") == "c", PATIENCE)
    assert ask(following, jpeg).json()["model_version"] == "sure"
    beside = ask(following, jpeg, "/v1/challenger").json()
    assert (beside["model_version"], beside["role"]) == ("c", "challenger")
    point(watched_bucket, "sure", challenger="c", share=0.5)
    wait_until(lambda: {ask(following, jpeg, unit=str(n)).json()["role"] for n in range(8)} > {"champion"}, PATIENCE)
    slices = [encoded(head(side, side)) for side in (90, 100, 110, 120)]
    assert len({ask(following, scan, unit="one").json()["role"] for scan in slices}) == 1
    for blob in list(watched_bucket.list_blobs(prefix="releases/c/")):
        blob.delete()  # it is loaded: promotion waits for nothing
    point(watched_bucket, "c")
    wait_until(lambda: served(following) == "c", PATIENCE)
    assert ask(following, jpeg, "/v1/challenger").status_code == 204


def test_a_canary_that_leaves_its_band_is_rolled_back_without_a_failed_request(
    following: Server, watched_bucket: storage.Bucket, jpeg: bytes
):
    before = counted(following, "scanflow_withdrawn_challengers_total")
    release(watched_bucket, "bad", **FAILS)
    point(watched_bucket, "sure", challenger="bad", share=0.5)
    statuses, over = Counter(), threading.Event()

    def call(caller: int) -> None:
        number = 0
        with requests.Session() as session:
            while not over.is_set():
                number += 1
                url = f"{following.url}/v1/predict?unit={caller}-{number}"
                statuses[session.post(url, data=jpeg, timeout=30).status_code] += 1

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(call, caller) for caller in range(4)]
        try:
            wait_until(lambda: "challenger" not in pointed(watched_bucket), PATIENCE)
        finally:
            over.set()
    for each in calls:
        each.result()
    assert set(statuses) == {200}
    assert pointed(watched_bucket) == {"version": "sure", "previous": None}
    assert counted(following, "scanflow_withdrawn_challengers_total") == before + 1
    assert ask(following, jpeg).json()["role"] == "champion"


def test_a_challenger_that_does_not_load_is_withdrawn(following: Server, watched_bucket: storage.Bucket, jpeg: bytes):
    release(watched_bucket, "corrupt", sha256="0" * 64)
    point(watched_bucket, "sure", challenger="corrupt", share=0.5)
    wait_until(lambda: "challenger" not in pointed(watched_bucket), PATIENCE)
    assert ask(following, jpeg).json()["model_version"] == "sure"


def test_a_challenger_whose_files_are_missing_stops_nobody(
    following: Server, watched_bucket: storage.Bucket, jpeg: bytes
):
    point(watched_bucket, "sure", challenger="nowhere", share=0.5)
    release(watched_bucket, "c", **ALWAYS_CANCER)
    assert ask(following, jpeg).json()["model_version"] == "sure"
    point(watched_bucket, "c", challenger="nowhere", share=0.5)
    wait_until(lambda: served(following) == "c", PATIENCE)
