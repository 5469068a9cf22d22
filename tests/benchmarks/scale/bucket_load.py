"""Uploads at a constant rate, whatever the pipeline does: an open loop.

Every upload is a file of its own: a real scan, or a sample, as JPEG with its number in a comment.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local.samples import encode, healthy_slices, lesion_slices
from local.stack.system import BUCKETS
from shared.gcp import storage

_THREADS = 16
_NUMBERS = itertools.count()


def jpegs(data: Path | None) -> list[bytes]:
    """Return real scans from a folder, or else samples, as JPEG."""
    files = sorted(data.rglob("*.jpg")) if data else []
    if not files:
        return [encode(pixels, "JPEG") for pixels in healthy_slices() + lesion_slices()]
    return [file.read_bytes() for file in files[:: max(1, len(files) // 200)]]


def numbered(images: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the images again and again, each time with another number in a comment: a file that nobody has seen."""
    for image in itertools.cycle(images):
        comment = f"{time.time_ns()} {next(_NUMBERS)}".encode()
        yield image[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + image[2:]


def upload(content: bytes) -> None:
    """Put a scan where an imaging system would."""
    storage.create(BUCKETS["uploads"], f"Unlabelled/{time.time_ns()}-{next(_NUMBERS)}", content, "image/jpeg")


def offer(images: Sequence[bytes], rate: float, seconds: float, stop: threading.Event | None = None) -> int:
    """Upload at a constant rate for some seconds, and return how many; what is late is sent as soon as it can be."""
    files, began, sent = numbered(images), time.monotonic(), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        uploads = []
        while (due := sent / rate) < seconds and not (stop and stop.is_set()):
            time.sleep(max(0.0, began + due - time.monotonic()))
            uploads.append(pool.submit(upload, next(files)))
            sent += 1
        for finished in uploads:
            finished.result()
    return sent
