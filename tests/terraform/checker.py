"""What of Terraform's own check can be had without Terraform: names, required arguments and references.

Types of values and counts that depend on them are left to `terraform validate` (test_validate.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from local.stack.terraform_config import parsed, plain
from tests.terraform.provider_schema import PACKAGES, Schema, provider_schema

_OF_TERRAFORM = {"for_each", "count", "provider", "depends_on", "lifecycle", "dynamic", "timeouts"}
_RESOURCE = re.compile(
    r"(?<![\w.])(data\.)?(google_\w+|archive_\w+|time_\w+)\.(\w+)(?:\[[^][]*(?:\[[^][]*\][^][]*)*\])?(?:\.(\w+))?"
)
_DECLARED = re.compile(r"(?<![\w.])(var|local)\.(\w+)")
_MODULE = re.compile(r"(?<![\w.])module\.(\w+)(?:\[[^][]*\])?(?:\.(\w+))?")


@dataclass
class Folder:
    """A module's declarations, by kind and name."""

    path: Path
    blocks: dict[str, dict[Any, dict]] = field(default_factory=dict)
    """`resource` and `data` by (type, name); `variable`, `output`, `module` by name; `locals` by name."""

    def __post_init__(self) -> None:
        for kind in ("resource", "data", "variable", "output", "module", "locals"):
            self.blocks[kind] = {}
        for file in sorted(self.path.glob("*.tf")):
            for kind, blocks in parsed(file.read_text()).items():
                for block in blocks if kind in self.blocks else []:
                    self._declare(kind, plain(block))

    def _declare(self, kind: str, block: dict) -> None:
        for name, body in block.items():
            if kind in ("resource", "data"):
                self.blocks[kind] |= {(name, own): content for own, content in body.items()}
            else:
                self.blocks[kind][name] = body


def complaints(path: Path) -> list[str]:
    """Everything that is wrong with the module in a folder, and with those it calls."""
    folder = Folder(path)
    found = list(_references(folder))
    for kind in ("resource", "data"):
        for (of, name), body in folder.blocks[kind].items():
            schema = _types(kind).get(of)
            found += _block(f"{of}.{name}", body, schema["block"]) if schema else [f"{of}: no such {kind}"]
    for name, call in folder.blocks["module"].items():
        found += _call(name, call, Folder(path / call["source"]))
        found += complaints(path / call["source"])
    return found


def _block(where: str, body: dict, schema: Schema) -> Iterator[str]:
    """Names and required parts of a block against its schema, all the way down."""
    dynamic = {
        name: blocks for each in body.get("dynamic", []) for name, blocks in each.items() if name != "__is_block__"
    }
    for name in body.keys() - _OF_TERRAFORM - schema["attributes"].keys() - schema["block_types"].keys():
        yield f"{where}: no attribute or block {name}"
    for name in dynamic.keys() - schema["block_types"].keys():
        yield f"{where}: no block {name}"
    for name, attribute in schema["attributes"].items():
        if attribute.get("required") and name not in body:
            yield f"{where}: {name} is missing"
    for name, nested in schema["block_types"].items():
        given = body.get(name, []) if isinstance(body.get(name, []), list) else [body[name]]
        repeated = dynamic.get(name, {}).get("content", [])
        if nested["min_items"] > len(given) + len(repeated):
            yield f"{where}: block {name} is missing"
        if nested["max_items"] == 1 and len(given) > 1:
            yield f"{where}: more than one block {name}"
        for content in given + repeated:
            yield from _block(f"{where}.{name}", content, nested["block"])


def _call(name: str, call: dict, module: Folder) -> Iterator[str]:
    """Arguments of a module call against the module's variables."""
    for argument in call.keys() - _OF_TERRAFORM - {"source"} - module.blocks["variable"].keys():
        yield f"module.{name}: no variable {argument}"
    for variable, body in module.blocks["variable"].items():
        if "default" not in body and variable not in call:
            yield f"module.{name}: {variable} is missing"


def _references(folder: Folder) -> Iterator[str]:
    for expression in _expressions(folder.blocks):
        for kind, name in _DECLARED.findall(expression):
            if name not in folder.blocks["variable" if kind == "var" else "locals"]:
                yield f"nothing declares {kind}.{name}"
        for name, output in _MODULE.findall(expression):
            called = folder.blocks["module"].get(name)
            if not called:
                yield f"nothing declares module.{name}"
            elif output and output not in Folder(folder.path / called["source"]).blocks["output"]:
                yield f"module.{name} has no output {output}"
        for data, of, name, attribute in _RESOURCE.findall(expression):
            yield from _resource(folder, "data" if data else "resource", (of, name), attribute)


def _resource(folder: Folder, kind: str, key: tuple[str, str], attribute: str) -> Iterator[str]:
    if key not in folder.blocks[kind]:
        yield f"nothing declares {'.'.join(key)}"
    elif attribute and (schema := _types(kind).get(key[0])):
        block = schema["block"]
        if attribute not in block["attributes"] and attribute not in block["block_types"]:
            yield f"{'.'.join(key)} has no {attribute}"


def _expressions(value: Any) -> Iterator[str]:
    """Every text that may hold a reference."""
    match value:
        case dict():
            for item in value.values():
                yield from _expressions(item)
        case list():
            for item in value:
                yield from _expressions(item)
        case str() if "${" in value:
            yield value


@cache
def _types(kind: str) -> dict[str, Schema]:
    """Resources or data sources of all providers; google-beta's differ from google's by what they add."""
    section = "resource_schemas" if kind == "resource" else "data_source_schemas"
    schemas = [provider_schema(name)[section] for name in PACKAGES]
    return {of: schema for section in schemas for of, schema in section.items()}
