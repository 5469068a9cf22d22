"""What the BigQuery stand-in knows of its tables, looked up once for each version of a project's schema.

local-bigquery asks DuckDB for all columns of all tables several times in each call, 5 to 8 ms each. Import this module
after HOME is set: local-bigquery's engine reads it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import duckdb
from local_bigquery.catalog import names, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import not_found

type _LookUp = Callable[..., list[Any]]
"""From a project, a dataset and maybe a table to what is known of it."""


def remembered(look_up: _LookUp) -> _LookUp:
    """Return the look-up with a memory of each project, until DuckLake counts another version of its schema.

    Tables of results belong to no project's schema and are looked up each time.
    """
    known: dict[str, tuple[int, dict[tuple[str | None, ...], list[Any]]]] = {}

    def found(project: str, *rest: str | None) -> list[Any]:
        version = None if tables.RESULTS in rest else _schema_version(project)
        if version is None:
            return look_up(project, *rest)
        kept = known.get(project)
        if kept is None or kept[0] != version:
            kept = known[project] = (version, {})
        if rest not in kept[1]:
            kept[1][rest] = look_up(project, *rest)
        return kept[1][rest]

    return found


def bound_objects(objects: _LookUp) -> _LookUp:
    """Return the look-up of tables and views, which finds the table of a query's results by its name alone."""

    def found(database_name: str, schema: str, table: str | None = None) -> list[Any]:
        if schema != tables.RESULTS or table is None:
            return objects(database_name, schema, table)
        return [] if _bound(database_name, schema, table) is None else [(table, "TABLE", 0)]

    return found


def bound_columns(columns: _LookUp) -> _LookUp:
    """Return the look-up of columns, which does not ask which ones of a query's results are required: none is."""

    def found(project: str, dataset: str, table: str) -> list[Any]:
        if dataset != tables.RESULTS:
            return columns(project, dataset, table)
        relation = _bound(*tables.physical(project, dataset, table))
        if relation is None:
            raise not_found("Table", names.label(project, dataset, table))
        return [types.field(*column) for column in relation]

    return found


def _bound(*table: str) -> list[tuple[str, Any]] | None:
    """Names and types of a table's columns; None if there is no such table."""
    with database.cursor() as cursor, suppress(duckdb.CatalogException):
        relation = cursor.sql(f"SELECT * FROM {database.quote(*table)} LIMIT 0")  # noqa: S608 - quoted
        return list(zip(relation.columns, relation.types, strict=True))
    return None


def _schema_version(project: str) -> int | None:
    """DuckLake's count of the changes to a project's schema; None for what is no project."""
    snapshots = database.quote(f"__ducklake_metadata_{project}", "ducklake_snapshot")
    with suppress(duckdb.CatalogException, duckdb.BinderException):
        ((version,),) = database.fetch(f"SELECT max(schema_version) FROM {snapshots}")  # noqa: S608 - quoted
        return int(version)
    return None
