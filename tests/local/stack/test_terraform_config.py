"""Terraform's declarations are read as plain values, with nothing left to guess."""

import pytest

from local.stack.system import _doors
from local.stack.terraform_config import declared, environment, schema, seconds, view


def test_declarations_are_plain_values() -> None:
    assert "scan-uploaded" in declared()["topics"]
    assert declared()["steps"]["validate_scan"]["topics"] == ["scan-uploaded"]
    assert declared()["delivery"]["max_delivery_attempts"] == 20
    assert seconds(declared()["delivery"]["minimum_backoff"]) == 10


def test_references_are_looked_up_and_literals_kept() -> None:
    found = environment("score_scan", {"local.dataset": "d", "local.inference_url": "http://x"})
    assert found == {"DATASET": "d", "INFERENCE_URL": "http://x"}


def test_no_local_process_is_given_an_unresolved_reference() -> None:
    given = [(door.name, key, value) for door in _doors() for key, value in door.environment.items()]
    assert [
        item for item in given if "${" in item[2] and item[1].isupper() and item[1].endswith(("BUCKET", "URL"))
    ] == []


@pytest.mark.parametrize("table", sorted(declared()["tables"]))
def test_every_table_has_its_keys_among_its_columns_and_a_view(table: str) -> None:
    columns = {column["name"]: column["mode"] for column in schema(table)}
    key = declared()["tables"][table]["key"]
    assert {columns[name] for name in key} == {"REQUIRED"}
    assert columns["recorded_at"] == "REQUIRED"
    assert f"PARTITION BY {', '.join(key)}" in view(table, "d")
    assert f"`d.{table}_raw`" in view(table, "d")
