"""Terraform's declarations are read as plain values, with nothing left to guess."""

import pytest

from local.stack.system import BUCKETS, _entry_points
from local.stack.terraform_config import declared, environment, schema, seconds, view


def test_declarations_are_plain_values() -> None:
    assert "scan-uploaded" in declared()["topics"]
    assert declared()["steps"]["validate_scan"]["topics"] == ["scan-uploaded"]
    assert declared()["delivery"]["max_delivery_attempts"] == 20
    assert seconds(declared()["delivery"]["minimum_backoff"]) == 10


def test_references_are_looked_up_and_literals_kept() -> None:
    found = environment("score_scan", {"local.dataset": "d", "local.inference_url": "http://x"})
    assert found == {"DATASET": "d", "INFERENCE_URL": "http://x"}


def test_a_reference_that_nobody_gives_a_value_for_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"local\.inference_url"):
        environment("score_scan", {"local.dataset": "d"})


def test_every_function_is_given_all_that_terraform_gives_it() -> None:
    started = {service.name: service.environment for service in _entry_points()}
    for step, settings in (declared()["steps"] | declared()["scheduled"]).items():
        given = {name: started[step][name] for name in settings["environment"]}
        assert not [value for value in given.values() if "${" in value]
    assert started["validate_scan"]["SCANS_BUCKET"] == BUCKETS["scans"]
    assert started["score_scan"]["INFERENCE_URL"] == started["dashboard"]["INFERENCE_URL"]


@pytest.mark.parametrize("table", sorted(declared()["tables"]))
def test_every_table_has_its_keys_among_its_columns_and_a_view(table: str) -> None:
    columns = {column["name"]: column["mode"] for column in schema(table)}
    key = declared()["tables"][table]["key"]
    assert {columns[name] for name in key} == {"REQUIRED"}
    assert columns["recorded_at"] == "REQUIRED"
    assert f"PARTITION BY {', '.join(key)}" in view(table, "d")
    assert f"`d.{table}_raw`" in view(table, "d")
