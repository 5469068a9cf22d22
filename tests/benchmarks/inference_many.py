"""Many scans in one request: a batch of files, and a file of many pages, beside the bare loop on all cores."""

import io
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests
from PIL import Image

from services.inference.served_models import BUNDLED
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.ml.model import read_release

_PAGES = 100
_RUNS = 3


def batch_rate(url: str, scans: list[Path]) -> float:
    """Return scans per second of one batch request, median of three."""
    files = [("file", ("scan", path.read_bytes())) for path in scans]
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        answer = requests.post(f"{url}/v1/predict:batch", files=files, timeout=300)
        seconds.append(time.perf_counter() - start)
        assert all("result" in json.loads(line) for line in answer.text.splitlines())
    return len(scans) / statistics.median(seconds)


def pages_of_bare(url: str, scans: list[Path]) -> float:
    """Return the rate of one file of many pages as a share of the bare loop's on all cores, median of three."""
    content = _tiff(scans)
    model, shares = read_release(BUNDLED), []

    def predict(page: np.ndarray) -> None:
        model.predict(prepare(page))

    with ThreadPoolExecutor(os.process_cpu_count() or 1) as threads:
        for _ in range(_RUNS):
            start = time.perf_counter()
            list(threads.map(predict, decode(content).pages))
            bare = time.perf_counter() - start
            start = time.perf_counter()
            answer = requests.post(f"{url}/v1/predict", data=content, timeout=300)
            shares.append(bare / (time.perf_counter() - start))
            assert len(answer.json()["scans"]) == _PAGES
    return statistics.median(shares)


def _tiff(scans: list[Path]) -> bytes:
    """Return a file of pages of real scans, reduced to 256 pixels a side."""
    pages = [Image.open(path).convert("L").resize((256, 256)) for path in scans[:_PAGES]]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    return file.getvalue()
