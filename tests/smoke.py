"""One synthetic scan through the whole corridor: `python -m tests.smoke`, with the environment of a deployed system.

Uploads a picture that nobody uploaded before and waits for its prediction in BigQuery. Exit status 0 when it is there.
"""

import json
import sys
import time

import cv2
import numpy as np

from shared import config
from shared.gcp import bigquery, storage
from shared.labels import Label
from shared.scan import file_id

DEADLINE_S = 180
"""Enough for every function's and service's cold start."""


def main() -> int:
    """Print the prediction of a new scan, or say that it did not come."""
    scan_id = upload(synthetic_scan())
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if rows := bigquery.query("SELECT * FROM {dataset}.predictions WHERE scan_id = @scan_id", scan_id=scan_id):
            print(json.dumps(rows[0], default=str))
            return 0
        time.sleep(1)
    print(
        f"Scan {scan_id} has no prediction after {DEADLINE_S} s. Look for its id in the functions' logs.",
        file=sys.stderr,
    )
    return 1


def upload(content: bytes) -> str:
    """Put a PNG into the uploads bucket; its scan id."""
    name = file_id(content)
    storage.create(
        config.uploads_bucket(), f"{Label.UNLABELLED}/{name}.png", content, "image/png", metadata={"source": "smoke"}
    )
    return name


def synthetic_scan() -> bytes:
    """PNG of a bright oval with darker chambers, as a head is from afar; its noise is its own."""
    picture = np.random.default_rng().normal(8, 4, (256, 256)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(picture, (128, 128), (80, 104), 0, 0, 360, 200, thickness=4)
    cv2.ellipse(picture, (128, 128), (74, 98), 0, 0, 360, 110, thickness=-1)
    for side in (-1, 1):
        cv2.ellipse(picture, (128 + side * 14, 120), (8, 30), side * 12, 0, 360, 40, thickness=-1)
    return cv2.imencode(".png", picture)[1].tobytes()


if __name__ == "__main__":
    sys.exit(main())
