"""Write the tables of the Terraform modules' READMEs again."""

import argparse
import re
from pathlib import Path

from local.stack.terraform_config import TERRAFORM, parsed, plain

MODULES = (TERRAFORM, TERRAFORM / "modules" / "step")


def tables(module: Path) -> str:
    """Return the inputs and outputs of a module as Markdown."""
    inputs = {name: body for block in _blocks(module, "variable") for name, body in block.items()}
    outputs = {name: body for block in _blocks(module, "output") for name, body in block.items()}
    lines = ["| input | | type | default |", "| --- | --- | --- | --- |"]
    for name, body in sorted(inputs.items(), key=lambda item: ("default" in item[1], item[0])):
        default = f"`{_shown(body['default'])}`" if "default" in body else "required"
        lines.append(f"| `{name}` | {_cell(body['description'])} | `{_kind(body['type'])}` | {default} |")
    lines += ["", "| output | |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(body['description'])} |" for name, body in sorted(outputs.items())]
    return "\n".join(lines)


def page(module: Path) -> str:
    """Return a module's README with its tables made again."""
    return re.sub(
        r"(<!-- inputs and outputs -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{tables(module)}\n\n{found[2]}",
        (module / "README.md").read_text(),
        flags=re.DOTALL,
    )


def _blocks(module: Path, kind: str) -> list[dict]:
    return [plain(block) for file in sorted(module.glob("*.tf")) for block in parsed(file.read_text()).get(kind, [])]


def _kind(text: str) -> str:
    """`object({...})` is told by its name: the description says what is in it."""
    return re.sub(r"\(\{.*", "", str(text).removeprefix("${").removesuffix("}").replace("\n", " "))


def _shown(value: object) -> str:
    words = {True: "true", False: "false", None: "null"}
    return words[value] if isinstance(value, bool) or value is None else f'"{value}"' if value == "" else str(value)


def _cell(text: str) -> str:
    return text.replace('\\"', '"').replace("|", "\\|")


def main() -> None:
    """Write them."""
    argparse.ArgumentParser(prog="python -m tests.terraform.readme", description=__doc__).parse_args()
    for folder in MODULES:
        (folder / "README.md").write_text(page(folder))


if __name__ == "__main__":
    main()
