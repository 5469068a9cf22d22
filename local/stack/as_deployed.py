"""A module run with the packages that its deployable has in the cloud.

Everything is installed in one environment here. Google's clients import pandas where they find it, a hundred megabytes
that no function has; and a package that a requirements file lacks would be missed only after deploying.
"""

import argparse
import os
import re
import runpy
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

VARIABLE = "NOT_DEPLOYED"
_NAME = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def not_deployed(requirements: Path) -> str:
    """Return the value of NOT_DEPLOYED: top-level modules installed here that no package of a requirements file has."""
    deployed = {_canonical(name) for name in _NAME.findall(requirements.read_text())}
    return " ".join(sorted(module for module, owners in _owners().items() if not owners & deployed))


def main() -> None:
    """Run a module, for which the modules named in NOT_DEPLOYED are not installed."""
    parser = argparse.ArgumentParser("python -m local.stack.as_deployed", description=__doc__.partition("\n")[0])
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the module")
    given = parser.parse_args()
    sys.meta_path.insert(0, _Hidden(frozenset(os.environ.get(VARIABLE, "").split())))
    sys.argv = [given.module, *given.arguments]
    runpy.run_module(given.module, run_name="__main__", alter_sys=True)


class _Hidden(MetaPathFinder):
    """Finds no module of these names."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave every other module to the finders behind. Raises ModuleNotFoundError."""
        if fullname in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


@cache
def _owners() -> dict[str, set[str]]:
    """Packages that install each top-level module."""
    return {module: set(map(_canonical, packages)) for module, packages in packages_distributions().items()}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
