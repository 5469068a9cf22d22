"""Datasets of a test's own, made as Terraform declares them."""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from local.stack.provision import make_table
from local.stack.system import PROJECT
from local.stack.terraform_config import declared
from shared.gcp import bigquery


@contextmanager
def own_dataset(tables: Collection[str] | None = None) -> Iterator[str]:
    """Make a dataset with these tables and their views, or with all, and let DATASET name it; delete it on leaving.

    The stand-in goes through the tables of all datasets in each call, so each that is made or left costs time.
    """
    client, name = bigquery.client(), f"test_{uuid.uuid4().hex[:8]}"
    client.create_dataset(f"{PROJECT}.{name}")
    try:
        for table in declared()["tables"] if tables is None else tables:
            make_table(PROJECT, name, table)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATASET", name)
            yield name
    finally:
        client.delete_dataset(f"{PROJECT}.{name}", delete_contents=True)


def emptied(*tables: str) -> None:
    """Delete every row of these tables: a tenth of what a new dataset costs."""
    for table in tables:
        bigquery.delete(table, "TRUE")
