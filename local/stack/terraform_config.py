"""The topics, subscriptions, steps, tables and buckets that Terraform declares, read from its files."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import hcl2

from shared import config

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"


@cache
def declared() -> dict[str, Any]:
    """Return every `locals` entry of terraform/*.tf as plain values; references stay as Terraform writes them.

    Names are those of an environment with the prefix of this process's.
    """
    merged: dict[str, Any] = {}
    for file in sorted(TERRAFORM.glob("*.tf")):
        for block in parsed(_named(file.read_text())).get("locals", []):
            merged |= plain(block)
    return merged


@cache
def parsed(text: str) -> dict[str, Any]:
    """Return the blocks of a Terraform file by kind, for reading only: parsing is slow, so each text is parsed once."""
    return hcl2.loads(text)


def _named(text: str) -> str:
    prefix = config.name_prefix()
    return text.replace("${var.prefix}", prefix).replace("${local.underscored}", prefix.replace("-", "_"))


def environment(step: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return a function's environment, with each `${local...}` replaced by what `values` has for it.

    Raises KeyError for a reference that `values` does not have.
    """
    functions = declared()["steps"] | declared()["scheduled"]
    return {name: _resolved(text, values) for name, text in functions[step]["environment"].items()}


def schema(table: str) -> list[dict[str, Any]]:
    """Return the columns of a table, as BigQuery's JSON schema."""
    columns: list[dict[str, Any]] = json.loads((TERRAFORM / "schemas" / f"{table}.json").read_text())
    return columns


def view(table: str, dataset: str) -> str:
    """Return the SQL of the view that keeps one row per key of a table."""
    settings = declared()["tables"][table]
    key, said_at = ", ".join(settings["key"]), settings["said_at"]
    template = Template((TERRAFORM / "views" / "latest.sql").read_text())
    return template.substitute(dataset=dataset, table=table, key=key, said_at=said_at, kept=kept(table))


def kept(table: str) -> str:
    """Return the condition on the rows of a table that its view keeps."""
    columns = {column["name"] for column in schema(table)}
    return " AND ".join(["TRUE", *(rule for column, rule in declared()["kept_rows"].items() if column in columns)])


def seconds(duration: str) -> int:
    """Return the seconds of a duration as Terraform writes it: 60 for `60s`."""
    return int(duration.removesuffix("s"))


def _resolved(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(.+?)\}", lambda reference: values[reference[1]], text)


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever HCL holds
    """Return parsed HCL without the parser's block marks, comments and quotes; references stay as written."""
    match value:
        case dict():
            return {key.strip('"'): plain(item) for key, item in value.items() if not key.startswith("__")}
        case list():
            return [plain(item) for item in value]
        case str():
            return value.removeprefix('"').removesuffix('"')
        case _:
            return value
