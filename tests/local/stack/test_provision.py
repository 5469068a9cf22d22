"""What an earlier version of the project left in local state becomes what Terraform declares now."""

import json
import uuid
from datetime import timedelta

import pytest
from google.cloud import bigquery as bq
from google.cloud import pubsub_v1

from local.stack.provision import RELEASE, make_buckets, make_release, make_tables, provision
from local.stack.system import BUCKETS, PROJECT, Stack
from local.stack.terraform_config import declared, schema
from shared.gcp import bigquery, storage
from shared.gcp.registry import RELEASES, read_pointer
from shared.ml.model import read_release
from tests.support.datasets import own_dataset


def test_a_table_of_an_earlier_version_gets_its_new_columns_and_keeps_its_rows(stack: Stack) -> None:
    dataset = f"test_{uuid.uuid4().hex[:8]}"
    client = bigquery.client()
    client.create_dataset(f"{PROJECT}.{dataset}")
    first = [bq.SchemaField.from_api_repr(column) for column in schema("scans") if column["mode"] == "REQUIRED"]
    client.create_table(bq.Table(f"{PROJECT}.{dataset}.scans_raw", schema=first))
    values = {"STRING": "a", "INTEGER": 1, "FLOAT": 1.0, "TIMESTAMP": "2026-01-01T00:00:00Z", "BOOLEAN": True}
    row = {field.name: values[field.field_type] for field in first}
    assert client.insert_rows_json(f"{PROJECT}.{dataset}.scans_raw", [row]) == []
    old_view = bq.Table(f"{PROJECT}.{dataset}.scans")
    old_view.view_query = f"SELECT 1 AS one FROM `{dataset}.scans_raw`"
    client.create_table(old_view)

    make_tables(PROJECT, dataset)

    columns = {field.name for field in client.get_table(f"{PROJECT}.{dataset}.scans_raw").schema}
    assert columns == {column["name"] for column in schema("scans")}
    (kept,) = client.query_and_wait(f"SELECT * FROM {dataset}.scans")
    assert set(kept.keys()) >= {field.name for field in first}
    client.delete_dataset(f"{PROJECT}.{dataset}", delete_contents=True)


def test_a_subscription_of_an_earlier_version_gets_todays_settings(stack: Stack) -> None:
    name = f"projects/{PROJECT}/subscriptions/record-scan-on-scan-accepted"
    with pubsub_v1.SubscriberClient() as subscriber:
        declared_today = subscriber.get_subscription(subscription=name)
        earlier = subscriber.get_subscription(subscription=name)
        earlier.retry_policy.maximum_backoff = timedelta(seconds=7)
        mask = {"paths": ["retry_policy"]}
        subscriber.update_subscription(request={"subscription": earlier, "update_mask": mask})
        assert subscriber.get_subscription(subscription=name) != declared_today
        provision(PROJECT, BUCKETS, {step: stack.url(step) for step in declared()["steps"]})
        assert subscriber.get_subscription(subscription=name) == declared_today


@pytest.mark.parametrize(
    ("left", "followed"),
    [
        ({"version": "20260101-00000000", "previous": None}, True),
        ({"version": "20260101-00000000", "previous": "20251231-00000000"}, False),
        ({"version": "20260101-00000000", "previous": None, "challenger": "20260102-00000000", "share": 0.1}, False),
    ],
)
def test_the_release_of_an_earlier_checkout_makes_room_unless_somebody_chose_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, left: dict[str, object], followed: bool
) -> None:
    bucket = f"models-{uuid.uuid4().hex[:8]}"
    make_buckets({"models": bucket})
    monkeypatch.setenv("MODELS_BUCKET", bucket)
    storage.create(bucket, RELEASES.pointer, json.dumps(left).encode(), "application/json")
    for _ in range(2):
        make_release(bucket, RELEASE)
    found = read_pointer(RELEASES)
    assert (found.version == read_release(RELEASE).card.version) == followed
    assert followed or (found.version, found.previous) == (left["version"], left["previous"])


def test_a_second_start_asks_for_no_table_that_is_as_declared(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the stand-in a tenth of a second, in which messages are pushed to functions that are not there yet."""
    asked: list[str] = []
    with own_dataset(()) as dataset, monkeypatch.context() as patch:
        make_tables(PROJECT, dataset)
        patch.setattr(bigquery.client(), "create_table", lambda table, **_: asked.append(str(table)))
        make_tables(PROJECT, dataset)
    assert asked == []
