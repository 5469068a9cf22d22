"""Releases in a models bucket, and which of them a running service answers by."""

import json
from dataclasses import replace

import requests
from google.cloud import storage

from services.inference.served_models import BUNDLED
from shared.ml.model import Card
from shared.ml.release_files import CARD_FILE, GRAPH_FILE
from tests.support.servers import Server


def release(bucket: storage.Bucket, version: str, **changes: object) -> None:
    """Put the bundled graph into the bucket under another version."""
    card = replace(Card.from_json((BUNDLED / CARD_FILE).read_bytes()), version=version, **changes)
    bucket.blob(f"releases/{version}/{CARD_FILE}").upload_from_string(card.to_json())
    bucket.blob(f"releases/{version}/{GRAPH_FILE}").upload_from_string((BUNDLED / GRAPH_FILE).read_bytes())


def point(bucket: storage.Bucket, version: str, **beside: object) -> None:
    """Move the pointer; `beside` may name a challenger and its share."""
    bucket.blob("current.json").upload_from_string(json.dumps({"version": version, "previous": None} | beside))


def pointed(bucket: storage.Bucket) -> dict:
    """Return what the pointer says."""
    return json.loads(bucket.blob("current.json").download_as_bytes())


def served(server: Server) -> str:
    """The version being served."""
    return requests.get(f"{server.url}/v1/models/scanflow", timeout=30).json()["model_version_status"][0]["version"]
