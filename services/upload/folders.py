"""Which files to send, and what their folders say of them."""

from collections.abc import Mapping
from pathlib import Path

from shared.labels import Label, mapped_label


class NoLabel(Exception):  # noqa: N818 - a fact, as RejectedScan is
    """Some files lie in no folder that has a label: guessing one would spoil what is learnt from them."""


def find(folder: Path, label_map: Mapping[str, Label]) -> list[tuple[Path, Label]]:
    """Every file below a folder with its label, sorted; hidden files and folders are left out. Raises NoLabel."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _hidden(file.relative_to(folder))]
    labels = [mapped_label(file.relative_to(folder.parent).as_posix(), label_map) for file in files]
    if not files:
        raise NoLabel("There are no files in this folder.")
    if missing := labels.count(None):
        raise NoLabel(
            f"{missing:,} of {len(files):,} files lie in no folder that has a label. Name their folders, for example "
            f"--label-map FOLDER={Label.CANCER},OTHER={Label.UNLABELLED}, or move them. Nothing was sent."
        )
    return [(file, label) for file, label in zip(files, labels, strict=True) if label]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
