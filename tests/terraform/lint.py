"""The rules of tflint's own rule set for Terraform, as far as they apply here; tflint itself is in no package index.

Named as in docs/rules of https://github.com/terraform-linters/tflint-ruleset-terraform. Left out are those about
what is not used here: workspaces of Terraform Cloud, modules from registries.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from local.stack.terraform_config import parsed, plain

Blocks = list[tuple[str, str, dict]]
"""Kind, name and body: ("variable", "project", {...}), ("resource", "google_pubsub_topic.this", {...})."""


def findings(folder: Path) -> list[str]:
    """Return everything that a rule finds in a module's folder, as `rule: what`."""
    text = "\n".join(file.read_text() for file in sorted(folder.glob("*.tf")))
    blocks = _blocks(folder)
    return [f"terraform_{rule.__name__}: {found}" for rule in RULES for found in rule(text, blocks)]


def typed_variables(_: str, blocks: Blocks) -> Iterator[str]:
    yield from (name for kind, name, body in blocks if kind == "variable" and "type" not in body)


def documented_variables(_: str, blocks: Blocks) -> Iterator[str]:
    yield from (name for kind, name, body in blocks if kind == "variable" and not body.get("description"))


def documented_outputs(_: str, blocks: Blocks) -> Iterator[str]:
    yield from (name for kind, name, body in blocks if kind == "output" and not body.get("description"))


def naming_convention(_: str, blocks: Blocks) -> Iterator[str]:
    yield from (name for _, name, _ in blocks if not re.fullmatch(r"[a-z][a-z0-9_]*", name.rpartition(".")[2]))


def unused_declarations(text: str, blocks: Blocks) -> Iterator[str]:
    """A use of a variable in its own validation is none."""
    words = {"variable": "var", "locals": "local", "data": "data"}
    for kind, name, body in blocks:
        if kind in words:
            reference = f"{words[kind]}.{name}"
            own = str(body["validation"]).count(reference) if kind == "variable" and "validation" in body else 0
            if _uses(text, reference) <= own:
                yield reference


def unused_required_providers(text: str, blocks: Blocks) -> Iterator[str]:
    kinds = {name.partition("_")[0] for kind, name, _ in blocks if kind in ("resource", "data")}
    for provider in re.findall(r"^\s+([\w-]+)\s+= \{ source =", text, re.M):
        if provider.partition("-")[0] not in kinds:
            yield provider


def required_version(text: str, _: Blocks) -> Iterator[str]:
    if not re.search(r'required_version = "', text):
        yield "none is given"


def required_providers(text: str, blocks: Blocks) -> Iterator[str]:
    given = dict(re.findall(r'^\s+([\w-]+)\s+= \{ source = "[^"]+", version = "([^"]+)"', text, re.M))
    wanted = {name.partition("_")[0] for kind, name, _ in blocks if kind in ("resource", "data")}
    yield from sorted(wanted - given.keys())


def deprecated_interpolation(text: str, _: Blocks) -> Iterator[str]:
    yield from re.findall(r'= "\$\{[^{}"]+\}"$', text, re.M)


def deprecated_index(text: str, _: Blocks) -> Iterator[str]:
    yield from re.findall(r"\b(?:var|local|\w+_\w+\.\w+)\.\w+\.\d+\b", text)


def deprecated_lookup(text: str, _: Blocks) -> Iterator[str]:
    yield from re.findall(r"\blookup\([^,()]+,[^,()]+\)", text)


def empty_list_equality(text: str, _: Blocks) -> Iterator[str]:
    yield from re.findall(r"\S+ [!=]= \[\]", text)


def comment_syntax(text: str, _: Blocks) -> Iterator[str]:
    yield from re.findall(r"^\s*//.*", text, re.M)


def map_duplicate_keys(text: str, _: Blocks) -> Iterator[str]:
    """Of maps written over several lines, one key a line."""
    for body in re.findall(r"\{\n((?:[ \t]+[\w.\"-]+\s+= [^{}\n]*\n)+)\s*\}", text):
        keys = re.findall(r"^\s+([\w.\"-]+)\s+=", body, re.M)
        yield from sorted({key for key in keys if keys.count(key) > 1})


def module_pinned_source(_: str, blocks: Blocks) -> Iterator[str]:
    """Only folders of this repository are used, which need no version."""
    yield from (name for kind, name, body in blocks if kind == "module" and not body["source"].startswith("./"))


RULES: tuple[Callable[[str, Blocks], Iterator[str]], ...] = (
    *(typed_variables, documented_variables, documented_outputs, naming_convention, unused_declarations),
    *(unused_required_providers, required_version, required_providers, deprecated_interpolation, deprecated_index),
    *(deprecated_lookup, empty_list_equality, comment_syntax, map_duplicate_keys, module_pinned_source),
)


def _blocks(folder: Path) -> Blocks:
    found: Blocks = []
    for file in sorted(folder.glob("*.tf")):
        for kind, blocks in parsed(file.read_text()).items():
            for name, body in (item for block in blocks for item in plain(block).items()):
                if kind in ("resource", "data"):
                    found += [(kind, f"{name}.{own}", content) for own, content in body.items()]
                elif kind in ("variable", "output", "module", "locals"):
                    found.append((kind, name, body))
    return found


def _uses(text: str, reference: str) -> int:
    return len(re.findall(rf"(?<![\w.]){re.escape(reference)}\b", re.sub(r"(^|\s)#.*", "", text, flags=re.M)))
