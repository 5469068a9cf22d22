"""Functions are driven as Pub/Sub and Cloud Scheduler drive them, over buckets and tables of the test's own."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from functions_framework import create_app
from google.cloud import pubsub_v1

from local.stack.provision import make_buckets
from local.stack.system import PROJECT, REGION, Stack
from shared.gcp import storage
from tests.support.datasets import own_dataset
from tests.support.events import pushed_message

ROOT = Path(__file__).parents[2]
BUCKETS = ("uploads", "scans", "quarantine", "source")


@dataclass(frozen=True)
class Cloud:
    """Buckets, a dataset and subscriptions that nobody else touches."""

    buckets: dict[str, str]
    subscriptions: dict[str, str]

    def upload(self, name: str, content: bytes, metadata: dict[str, str] | None = None) -> dict:
        """Put an object into the uploads bucket; answers its notification's payload."""
        storage.create(self.buckets["uploads"], name, content, "application/octet-stream", metadata)
        return storage.client().bucket(self.buckets["uploads"]).get_blob(name)._properties

    def names(self, bucket: str) -> list[str]:
        """Every object's name in a bucket."""
        return sorted(blob.name for blob in storage.objects(self.buckets[bucket]))

    def pull(self, topic: str) -> list[dict]:
        """Every event published on a topic since the last call."""
        with pubsub_v1.SubscriberClient() as subscriber:
            path = self.subscriptions[topic]
            received = subscriber.pull(subscription=path, max_messages=100, return_immediately=True).received_messages
            if received:
                subscriber.acknowledge(subscription=path, ack_ids=[item.ack_id for item in received])
        return [json.loads(item.message.data) for item in received]


@pytest.fixture(scope="module")
def cloud(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """An empty cloud beside the stack's own, with the tables that the module's TABLES names, or all."""
    mark = uuid.uuid4().hex[:8]
    buckets = {name: f"{mark}-{name}" for name in BUCKETS}
    make_buckets(buckets)
    subscriptions = {
        topic: _subscribe(topic, mark)
        for topic in ("scan-accepted", "scan-rejected", "scan-scored", "series-summarised")
    }
    with own_dataset(getattr(request.module, "TABLES", None)), pytest.MonkeyPatch.context() as patch:
        for name, bucket in buckets.items():
            patch.setenv(f"{name.upper()}_BUCKET", bucket)
        patch.setenv("REGION", REGION)
        yield Cloud(buckets, subscriptions)


def _subscribe(topic: str, mark: str) -> str:
    with pubsub_v1.SubscriberClient() as subscriber:
        path = subscriber.subscription_path(PROJECT, f"test-{mark}-{topic}")
        subscriber.create_subscription(name=path, topic=subscriber.topic_path(PROJECT, topic))
    return path


Push = Callable[..., int]


def client(step: str, signature: str) -> FlaskClient:
    """A function as the Functions Framework serves it."""
    return create_app(step, str(ROOT / "functions" / step / "main.py"), signature).test_client()


def push(step: str) -> Push:
    """Deliver a message to a function as a push subscription does; answers the HTTP status."""
    served = client(step, "cloudevent")
    served.application.config["PROPAGATE_EXCEPTIONS"] = False

    def deliver(data: dict, **attributes: str) -> int:
        body = pushed_message(json.dumps(data).encode(), **attributes)
        return served.post("/", json=body).status_code

    return deliver
