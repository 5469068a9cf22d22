"""One drill: upload while everything is disturbed, restart in the middle, then account for every file."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import requests
from google.api_core.exceptions import GoogleAPIError

from local.samples import encode, healthy_slices, lesion_slices, multi_page_tiff
from local.stack.system import BUCKETS, Options, Stack, running
from shared.gcp import storage
from shared.gcp.storage import StorageError
from tests.chaos.accounting import Account, File, account
from tests.chaos.clock import Clock
from tests.chaos.disturbance import Disturbance
from tests.chaos.proxy import Proxy

_AT_A_TIME = 4
_UPLOADED_WITHIN_S = 600
_AT_LEAST = 8
"""Things that go wrong in each half of a drill, however soon its files are uploaded: they are under way longer."""
_QUIET_S = 45
"""Without another file that ends: what has not ended by then is not coming by itself."""
_ENDED_WITHIN_S = 900


@dataclass(frozen=True, slots=True)
class Result:
    """What happened in one drill, and what was left wrong."""

    seed: int
    uploads: int
    disturbances: Counter[str]
    reconciled: int
    """Files that ended only after the reconcile step announced them again."""
    account: Account


def drill(directory: Path, seed: int, uploads: int, jumps: bool = False) -> Result:
    """Run one drill with its state under `directory`; `jumps`: whether clocks jump too. Raises NoClock.

    Half of the files are uploaded, everything is stopped and started on the same state, and the other half follows,
    all the while disturbed. Then the system is left alone, and asked at most once to reconcile.
    """
    random = Random(seed)
    files = drawn_files(random, uploads)
    half = len(files) // 2
    done: Counter[str] = Counter()
    directory.mkdir(parents=True, exist_ok=True)
    clock = Clock(directory) if jumps else None
    for part in (files[:half], files[half:]):
        with _disturbed(directory, random, clock, done):
            upload(part)
        done["restarts"] += 1
    with running(directory) as stack:
        late = wait_for_the_end(files)
        if late:
            reconcile(stack)
        wait_for_the_end(files)
        return Result(seed, len(files), done, late, account(files))


@contextmanager
def _disturbed(directory: Path, random: Random, clock: Clock | None, done: Counter[str]) -> Iterator[None]:
    proxies: dict[str, Proxy] = {}

    def front(name: str, port: int) -> int:
        proxies[name] = Proxy(port, random)
        return proxies[name].port

    unreliable = ("--duplicate", "0.1", "--late", "0.1", "--thin-pulls", "--seed", str(random.randrange(1 << 30)))
    told = clock.told() if clock else nullcontext()
    with told, running(directory, Options(pubsub=unreliable, front=front)) as stack:
        disturbance = Disturbance(stack.supervisor, proxies, clock, random)
        disturbance.start()
        try:
            yield
            disturbance.end(_AT_LEAST)
        finally:
            disturbance.end(0)
            done.update(disturbance.done)
    for proxy in proxies.values():
        proxy.close()


def drawn_files(random: Random, count: int) -> list[File]:
    """Return files that differ in every bit that matters: single scans, several pages, truncated ones, copies."""
    slices = itertools.cycle(healthy_slices() + lesion_slices())
    files: list[File] = []
    for number in range(count):
        pixels = np.roll(next(slices), number, axis=1)
        pixels[0, :8] = [number >> bit & 1 for bit in range(8)]
        pixels[0, 8:16] = [random.getrandbits(1) for _ in range(8)]
        kind = random.choices(("PNG", "JPEG", "pages", "truncated", "copy"), (8, 4, 2, 2, 1))[0]
        if kind == "copy" and files:
            chosen = random.choice(files)
            files.append(File(f"Cancer/copy-{number}", chosen.content, chosen.pages))
        elif kind == "pages":
            files.append(File(f"Cancer/{number}.tif", multi_page_tiff([pixels, np.fliplr(pixels)]), 2))
        elif kind == "truncated":
            files.append(File(f"Cancer/{number}.png", encode(pixels, "PNG")[:-5000], 0))
        else:
            files.append(File(f"Cancer/{number}", encode(pixels, "JPEG" if kind == "JPEG" else "PNG"), 1))
    return files


def upload(files: Sequence[File]) -> None:
    """Upload each file until the bucket has acknowledged it, as an imaging system would."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(_upload, files))


def _upload(file: File) -> None:
    deadline = time.monotonic() + _UPLOADED_WITHIN_S
    while True:
        try:
            storage.create(BUCKETS["uploads"], file.object_name, file.content, "application/octet-stream")
            return
        except (StorageError, GoogleAPIError, requests.RequestException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wait_for_the_end(files: Sequence[File]) -> int:
    """Wait until every file ended, or none has for a while; return how many have not."""
    fewest, moved, began = len(files) + 1, time.monotonic(), time.monotonic()
    while True:
        left = len(account_when_possible(files).missing)
        if left < fewest:
            fewest, moved = left, time.monotonic()
        now = time.monotonic()
        if not left or now - moved > _QUIET_S or now - began > _ENDED_WITHIN_S:
            return left
        time.sleep(1)


def account_when_possible(files: Sequence[File]) -> Account:
    """Return the account; the stand-ins may be restarting still."""
    return _persistently(lambda: account(files))


def reconcile(stack: Stack) -> None:
    """Call the step that announces again what is recorded nowhere."""
    answer = requests.post(stack.url("reconcile"), params={"grace_s": 0}, json={}, timeout=300)
    answer.raise_for_status()


def _persistently[T](ask: Callable[[], T]) -> T:
    for _ in range(20):
        try:
            return ask()
        except (GoogleAPIError, requests.RequestException, StorageError):
            time.sleep(1)
    return ask()
