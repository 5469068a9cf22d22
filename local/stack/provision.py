"""Buckets, topics, subscriptions, tables and the released model, made as Terraform declares them."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from google.api_core.exceptions import AlreadyExists, Conflict
from google.cloud import bigquery as bq
from google.cloud import pubsub_v1  # type: ignore[attr-defined] # ships no types
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from local.stack.terraform_config import ROOT, declared, schema, seconds, view
from shared.gcp import bigquery, pubsub, storage
from shared.gcp.registry import RELEASES, add_version, read_pointer
from shared.ml.model import Card
from shared.ml.release_files import CARD_FILE, RELEASE_FILES

_CHANGING_SETTINGS = ("push_config", "ack_deadline_seconds", "retry_policy", "dead_letter_policy")

_FASTER = 10
"""How much sooner a retry comes here than in the cloud, where ten seconds to ten minutes lie between two attempts."""

RELEASE = ROOT / "services" / "inference" / "release"
SAMPLES = ROOT / "dashboard" / "samples"


def provision(project: str, buckets: Mapping[str, str], urls: Mapping[str, str]) -> None:
    """Make whatever is missing; push subscriptions are pointed at `urls` (function -> address) each time."""
    make_buckets(buckets)
    make_release(buckets["models"], RELEASE)
    make_samples(buckets["models"])
    _topics(urls)
    make_tables(project, declared()["dataset"])


def make_buckets(buckets: Mapping[str, str]) -> None:
    """Make every bucket that does not exist yet."""
    for name in buckets.values():
        with suppress(Conflict):
            storage.client().create_bucket(name)


def make_release(bucket: str, folder: Path) -> None:
    """Store the bundled release and point at it, unless somebody here has chosen another: then the pointer stays.

    State of an earlier checkout would else go on with the release of then, whose report this checkout does not have.
    """
    releases = replace(RELEASES, bucket=lambda: bucket)
    version = Card.from_json((folder / CARD_FILE).read_bytes()).version
    add_version(releases, version, {file: (folder / file).read_bytes() for file in RELEASE_FILES})
    found = read_pointer(releases)
    if found.version != version and not found.previous and not found.challenger:
        pointer = json.dumps({"version": version, "previous": None}).encode()
        storage.replace(bucket, releases.pointer, pointer, "application/json", generation=found.generation)


def make_samples(bucket: str) -> None:
    """Store the known files that check_pipeline sends."""
    for file in declared()["known_files"]:
        storage.create(bucket, f"synthetic/{file}", (SAMPLES / file).read_bytes(), "application/octet-stream")


def _topics(urls: Mapping[str, str]) -> None:
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    with subscriber:
        kept = [dead_letter_topic(name) for name in [*declared()["steps"], *declared()["pull_subscriptions"]]]
        for topic in [*declared()["topics"], *kept, *map(replay_topic, declared()["steps"])]:
            _topic(publisher, topic)
        for name in kept:
            _subscribe(subscriber, _pull(name, name))
        for step, settings in declared()["steps"].items():
            for topic in [*settings["topics"], replay_topic(step)]:
                push = _push(f"{_kebab(step)}-on-{topic}", topic, urls[step], dead_letter_topic(step))
                _subscribe(subscriber, push)
        for name, settings in declared()["pull_subscriptions"].items():
            pull = _pull(name, settings["topic"], settings["ack_deadline_seconds"])
            pull.retry_policy = _retry_policy()
            pull.dead_letter_policy = _dead_letter_policy(dead_letter_topic(name))
            _subscribe(subscriber, pull)


def dead_letter_topic(step: str) -> str:
    """Return where a step's dead-letter messages go: the name of a topic, and of the subscription that keeps them."""
    return f"{_kebab(step)}-dead-letter"


def replay_topic(step: str) -> str:
    """Return the name of the topic whose messages reach this step alone."""
    return f"{_kebab(step)}-replay"


def _topic(publisher: pubsub_v1.PublisherClient, name: str) -> None:
    with suppress(AlreadyExists):
        publisher.create_topic(name=pubsub.topic_path(name))


def _push(name: str, topic: str, url: str, dead_letter: str) -> types.Subscription:
    delivery = declared()["delivery"]
    return types.Subscription(
        name=pubsub.subscription_path(name),
        topic=pubsub.topic_path(topic),
        push_config=types.PushConfig(push_endpoint=url),
        ack_deadline_seconds=delivery["ack_deadline_seconds"],
        retry_policy=_retry_policy(),
        dead_letter_policy=_dead_letter_policy(dead_letter),
    )


def _retry_policy() -> types.RetryPolicy:
    delivery = declared()["delivery"]
    return types.RetryPolicy(
        minimum_backoff=Duration(seconds=seconds(delivery["minimum_backoff"]) // _FASTER),
        maximum_backoff=Duration(seconds=seconds(delivery["maximum_backoff"]) // _FASTER),
    )


def _dead_letter_policy(topic: str) -> types.DeadLetterPolicy:
    attempts = declared()["delivery"]["max_delivery_attempts"]
    return types.DeadLetterPolicy(dead_letter_topic=pubsub.topic_path(topic), max_delivery_attempts=attempts)


def _pull(name: str, topic: str, ack_deadline_seconds: int = 60) -> types.Subscription:
    return types.Subscription(
        name=pubsub.subscription_path(name),
        topic=pubsub.topic_path(topic),
        ack_deadline_seconds=ack_deadline_seconds,
    )


def _subscribe(subscriber: pubsub_v1.SubscriberClient, subscription: types.Subscription) -> None:
    """Create a subscription; one that stands gets the settings and the addresses of this run."""
    try:
        subscriber.create_subscription(request=subscription)
    except AlreadyExists:
        settings = [name for name in _CHANGING_SETTINGS if name in subscription]
        subscriber.update_subscription(request={"subscription": subscription, "update_mask": FieldMask(paths=settings)})


def make_tables(project: str, dataset: str) -> None:
    """Make the dataset with every declared table and its keyed view; a table of an earlier version gets new columns.

    The dataset's description is a digest of the declarations that it was made of: a start on kept state asks for
    nothing else. Messages are pushed as soon as Pub/Sub is up, and use up their attempts until the functions are there.
    """
    client = bigquery.client()
    made = client.create_dataset(f"{project}.{dataset}", exists_ok=True)
    digest = _digest(dataset)
    if made.description == digest:
        return
    for name in declared()["tables"]:
        make_table(project, dataset, name)
    made.description = digest
    client.update_dataset(made, ["description"])


def _digest(dataset: str) -> str:
    """Return a digest of all that Terraform declares of tables and views."""
    tables = {name: [settings, schema(name), view(name, dataset)] for name, settings in declared()["tables"].items()}
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def make_table(project: str, dataset: str, name: str) -> None:
    """Make one declared table and its keyed view in a dataset that there is, or give it its new columns."""
    client = bigquery.client()
    columns = [bq.SchemaField.from_api_repr(column) for column in schema(name)]
    table = bq.Table(f"{project}.{dataset}.{name}_raw", schema=columns)
    table.time_partitioning = bq.TimePartitioning(field="recorded_at")
    table.clustering_fields = declared()["tables"][name]["cluster"]
    if client.create_table(table, exists_ok=True).schema != columns:
        client.update_table(table, ["schema"])
    _make_view(client, f"{project}.{dataset}.{name}", view(name, dataset))


def _make_view(client: bq.Client, name: str, query: str) -> None:
    keyed = bq.Table(name)
    keyed.view_query = query
    if client.create_table(keyed, exists_ok=True).view_query != query:
        client.delete_table(name)  # the stand-in keeps a view's query when it is updated
        client.create_table(keyed)


def _kebab(step: str) -> str:
    return step.replace("_", "-")
