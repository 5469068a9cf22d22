"""What a deployable's code reaches, read from its syntax: functions called, settings read, tables and topics named."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.terraform.tools import ROOT

ADAPTERS = ("storage", "pubsub", "subscriptions", "bigquery", "dataproc", "tasks", "auth")
"""Modules of shared/gcp that talk to Google."""

Name = tuple[str, str]
"""Module and what is defined in it, as ("shared.gcp.storage", "read")."""


@dataclass(frozen=True)
class Module:
    """The top level of a file: definitions, and what its imports bind."""

    name: str
    definitions: dict[str, ast.AST]
    bound: dict[str, Name] = field(repr=False)
    """Name in the file -> (module, "") for a module, (module, name) for something in one."""


@dataclass(frozen=True)
class Deployable:
    """What is reached from a deployable's doors, and the calls into the adapters on the way."""

    reached: dict[Name, ast.AST]
    calls: dict[Name, list[ast.expr]]
    """(adapter, function) -> first arguments it is called with, from outside the adapter."""

    def strings(self) -> Iterator[str]:
        """Every text in the code that is reached."""
        for node in self.reached.values():
            yield from (
                part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )

    def settings(self) -> tuple[set[str], set[str]]:
        """Environment variables that it cannot do without, and those that it can."""
        required, optional = set(), set()
        for (module, _), node in self.reached.items():
            if module == "shared.config":
                variable, needed = _variable(node)
                (required if needed else optional).add(variable)
            elif module.startswith("shared.gcp."):
                required |= {text for text in _strings(node) if text in _variables()}
        return required, optional

    def tables(self) -> set[str]:
        """BigQuery tables that it names, in SQL or to an adapter."""
        queried = {table for text in self.strings() for table in re.findall(r"\{dataset\}\.(\w+)", text)}
        return {table.removesuffix("_raw") for table in queried} | self.written("append") | self.written("load")

    def written(self, function: str) -> set[str]:
        """Tables that `bigquery.<function>` is called for."""
        return {argument.value for argument in self.calls.get(("bigquery", function), [])}


@cache
def deployable(name: str) -> Deployable:
    """A function by its name, a service by its folder under services/, or `dashboard`."""
    if (ROOT / "functions" / name).is_dir():
        return _reach([(f"functions.{name}.main", name)])
    folder = ROOT / "dashboard" if name == "dashboard" else ROOT / "services" / name
    files = [_dotted(file) for file in folder.rglob("*.py")]
    return _reach([(file, definition) for file in files for definition in _module(file).definitions])


def _reach(doors: Iterable[Name]) -> Deployable:
    reached: dict[Name, ast.AST] = {}
    calls: dict[Name, list[ast.expr]] = {}
    waiting = list(doors)
    while waiting:
        module, name = here = waiting.pop()
        if here in reached or name not in _module(module).definitions:
            continue
        reached[here] = node = _module(module).definitions[name]
        for part, target in _references(_module(module), node):
            waiting.append(target)
            adapter = target[0].removeprefix("shared.gcp.")
            if adapter in ADAPTERS and target[0] != module and isinstance(part, ast.Call):
                calls.setdefault((adapter, target[1]), []).extend(
                    _resolved(module, argument) for argument in part.args[:1]
                )
    return Deployable(reached, calls)


def _references(module: Module, node: ast.AST) -> Iterator[tuple[ast.AST, Name]]:
    """Every use of something in this project, with the call where it is one."""
    for part in ast.walk(node):
        used = part.func if isinstance(part, ast.Call) else part
        if isinstance(used, ast.Attribute) and isinstance(used.value, ast.Name):
            bound = module.bound.get(used.value.id)
            if bound and not bound[1]:
                yield part, (bound[0], used.attr)
        elif isinstance(used, ast.Name):
            if used.id in module.definitions:
                yield part, (module.name, used.id)
            elif used.id in module.bound and module.bound[used.id][1]:
                yield part, module.bound[used.id]


def _resolved(module: str, argument: ast.expr) -> ast.expr:
    """An argument, or the constant of the module that it names."""
    if isinstance(argument, ast.Name) and isinstance(found := _module(module).definitions.get(argument.id), ast.Assign):
        return found.value
    return argument


@cache
def _module(name: str) -> Module:
    file = ROOT / f"{name.replace('.', '/')}.py"
    if not file.exists():
        file = ROOT / name.replace(".", "/") / "__init__.py"
    if not file.exists():
        return Module(name, {}, {})
    tree = ast.parse(file.read_text())
    definitions: dict[str, ast.AST] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                definitions[node.name] = node
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                definitions[target] = node
            case ast.Import() | ast.ImportFrom():
                pass
            case _:  # a script's own lines
                definitions[f"line {node.lineno}"] = node
    return Module(name, definitions, dict(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[tuple[str, Name]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{whole.replace('.', '/')}.py").exists()
                yield alias.asname or alias.name, (whole, "") if is_module else (node.module, alias.name)


@cache
def _variables() -> set[str]:
    return {
        _variable(node)[0]
        for node in _module("shared.config").definitions.values()
        if isinstance(node, ast.FunctionDef)
    }


def _variable(getter: ast.AST) -> tuple[str, bool]:
    """Environment variable of a getter of shared.config, and whether it must be set."""
    (read,) = [part for part in ast.walk(getter) if ast.unparse(part).startswith(("os.environ[", "os.environ.get("))]
    name = read.slice if isinstance(read, ast.Subscript) else read.args[0]
    return name.value, isinstance(read, ast.Subscript)


def _strings(node: ast.AST) -> Iterator[str]:
    yield from (part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)
