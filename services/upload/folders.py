"""Which files to send, and what their folders say of them."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from shared.labels import Label, mapped_label
from shared.scan import Placement


class NoLabel(Exception):
    """Some files lie in no folder that has a label: guessing one would spoil what is learnt from them."""


def find(folder: Path, label_map: Mapping[str, Label]) -> tuple[list[tuple[Path, Label]], int]:
    """Return every file below a folder with its label, sorted, and how many symbolic links were skipped.

    Hidden files and folders are left out. Links are followed, each real folder once: one that leads nowhere, or to a
    folder that is searched anyway, is skipped. Raises NoLabel.
    """
    files, skipped = _files(folder)
    labels = [mapped_label(file.relative_to(folder.parent).as_posix(), label_map) for file in files]
    if not files:
        raise NoLabel("There are no files in this folder.")
    if missing := labels.count(None):
        raise NoLabel(
            f"{missing:,} of {len(files):,} files lie in no folder that has a label. Name their folders, for example "
            f"--label-map FOLDER={Label.CANCER},OTHER={Label.UNLABELLED}, or move them. Nothing was sent."
        )
    return [(file, label) for file, label in zip(files, labels, strict=True) if label], skipped


def as_series(files: Iterable[Path], spacing_mm: float) -> dict[Path, Placement]:
    """Return the place of every file where each folder is a series: its files in the order of their names' numbers.

    A series is known by its slices' bytes, so that the same folder is the same series whatever it is called. A file
    that cannot be read has no place: sending it tells.
    """
    placements: dict[Path, Placement] = {}
    for _, group in groupby(sorted(files, key=_by_folder), key=lambda path: path.parent):
        digests = {path: digest for path in group if (digest := _digest(path))}
        series_id = hashlib.sha256("\n".join(digests.values()).encode()).hexdigest()
        placements |= {path: Placement(series_id, place * spacing_mm) for place, path in enumerate(digests)}
    return placements


def _by_folder(path: Path) -> tuple[Path, list[tuple[int, str]]]:
    """Sort key by which `2.png` comes before `10.png`."""
    return path.parent, [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _files(folder: Path) -> tuple[list[Path], int]:
    """Files below a folder, its own before those behind links, so that a file has the label of where it lies."""
    files: list[Path] = []
    seen: set[Path] = set()
    skipped, waiting = 0, [folder]
    while waiting:
        start = waiting.pop(0)
        if start.resolve() in seen:
            skipped += 1
            continue
        for place, folders, names in start.walk():
            seen.add(place.resolve())
            folders[:] = sorted(name for name in folders if not _hidden(name))
            here = [place / name for name in sorted(names) if not _hidden(name)]
            waiting += [path for path in here if path.is_symlink() and path.is_dir()]
            files += [path for path in here if path.is_file()]
            skipped += sum(path.is_symlink() and not path.exists() for path in here)
    return sorted(files), skipped


def _hidden(name: str) -> bool:
    return name.startswith(".")
