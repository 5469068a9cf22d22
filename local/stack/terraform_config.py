"""The topics, subscriptions, steps, tables and buckets that Terraform declares, read from its files."""

import json
import re
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import hcl2

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"


@cache
def declared() -> dict[str, Any]:
    """Every `locals` entry of terraform/*.tf as plain values; references stay as Terraform writes them."""
    merged: dict[str, Any] = {}
    for file in sorted(TERRAFORM.glob("*.tf")):
        for block in hcl2.loads(file.read_text()).get("locals", []):
            merged |= plain(block)
    return merged


def environment(step: str, values: dict[str, str]) -> dict[str, str]:
    """Environment of a function, with what `${local...}` stands for looked up in `values`."""
    functions = declared()["steps"] | declared()["scheduled"]
    return {name: values.get(_reference(text), text) for name, text in functions[step]["environment"].items()}


def schema(table: str) -> list[dict[str, Any]]:
    """Columns of a table, as BigQuery's JSON schema."""
    return json.loads((TERRAFORM / "schemas" / f"{table}.json").read_text())


def view(table: str, dataset: str) -> str:
    """SQL of the view that keeps one row a key of a table."""
    settings = declared()["tables"][table]
    key, said_at = ", ".join(settings["key"]), settings["said_at"]
    template = Template((TERRAFORM / "views" / "latest.sql").read_text())
    return template.substitute(dataset=dataset, table=table, key=key, said_at=said_at)


def seconds(duration: str) -> int:
    """`60s` as 60."""
    return int(duration.removesuffix("s"))


def _reference(text: str) -> str:
    """`local.buckets.scans` of `${local.buckets.scans}`; the text itself where it is none."""
    found = re.fullmatch(r"\$\{(.+)\}", text)
    return found.group(1) if found else text


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever HCL holds
    """Parsed HCL without the parser's block marks, comments and quotes round strings; references stay as written."""
    match value:
        case dict():
            return {key.strip('"'): plain(item) for key, item in value.items() if not key.startswith("__")}
        case list():
            return [plain(item) for item in value]
        case str():
            return value.removeprefix('"').removesuffix('"')
        case _:
            return value
