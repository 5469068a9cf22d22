"""Synthetic scans against a deployed system, with its environment. Exit status 0 if every one is answered.

`python -m tests.smoke` uploads a picture that nobody uploaded before and waits for its prediction in BigQuery.
`python -m tests.smoke --service URL [--audience URL] [--requests N]` asks one inference service, or one revision of it.
"""

import argparse
import json
import sys
import time

import cv2
import numpy as np
import requests

from shared import config
from shared.gcp import auth, bigquery, storage
from shared.labels import Label
from shared.scan import file_id

DEADLINE_S = 180
"""Enough for every function's and service's cold start."""


def main() -> int:
    """Try the whole system, or one service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", help="address of an inference service, or of one revision by its tag")
    parser.add_argument("--audience", help="address that the ID token is for: the service's own, also for a tag's")
    parser.add_argument("--requests", type=int, default=20, help="how many scans to send (20)")
    arguments = parser.parse_args()
    if arguments.service:
        return ask(arguments.service, arguments.audience or arguments.service, arguments.requests)
    return follow()


def ask(url: str, audience: str, count: int) -> int:
    """Send scans to a service one after another; say how many it did not answer with a prediction."""
    session = auth.session(audience)
    failures = [failure for _ in range(count) if (failure := _failure(url, session))]
    print(f"{count - len(failures)} of {count} scans were answered.")
    print(*sorted(set(failures)), sep="\n", file=sys.stderr)
    return 1 if failures else 0


def _failure(url: str, session: requests.Session) -> str | None:
    try:
        response = session.post(f"{url}/v1/predict", data=synthetic_scan(), timeout=60)
    except requests.RequestException as error:
        return type(error).__name__
    if response.status_code != 200:
        return f"HTTP {response.status_code}"
    try:
        answer = response.json()
    except ValueError:
        return "an answer that is no JSON: is this the inference service?"
    return None if 0 <= answer.get("probability", -1) <= 1 else "an answer without a probability"


def follow() -> int:
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
