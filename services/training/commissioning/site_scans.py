"""The labelled scans by which a site is commissioned, or a sentence that says why they will not do."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.training.commissioning.command_line import BAD_SOURCE
from services.training.data import scans as training_scans
from services.training.data.copies import split_groups
from services.training.data.scans import Scans
from shared.errors import RejectedScan
from shared.imaging import decoding
from shared.labels import LABEL_MAP, Label, mapped_label
from shared.scan import file_id, file_id_of, is_source, page_of

FEWEST = 25
"""Labelled scans below which nothing that is fitted would mean anything."""
FEWEST_OF_A_CLASS = 5


class CannotCommission(Exception):
    """The site cannot be commissioned as asked. Its text is a sentence that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteScans:
    """Labelled scans of one source."""

    source: str
    scans: Scans
    groups: np.ndarray
    """Number of the person, or group of copies, of each scan."""
    unreadable: int
    """Files with a label that are no scans."""


def read_site(folder: Path, source: str) -> SiteScans:
    """Return the scans of a folder, labelled by the rule of folders. Raises CannotCommission."""
    if not is_source(source):
        raise CannotCommission(BAD_SOURCE)
    if not folder.is_dir():
        raise CannotCommission("DATA is not a folder. Say which folder holds the site's labelled scans.")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    labels = [mapped_label(path.relative_to(folder.parent).as_posix()) for path in files]
    _check_folders(files, labels)
    labelled = [path for path, label in zip(files, labels, strict=True) if label and label != Label.UNLABELLED]
    found = training_scans.read(str(folder)) if labelled else None
    if found is None or len(found) == 0:
        raise CannotCommission(f"DATA holds no labelled scan. {_folders()}")
    check_scans(found)
    found.table["sequence"] = _sequences(found, labelled)
    _join_pages(found)
    return SiteScans(
        source=source,
        scans=found,
        groups=split_groups(found.images, found.table),
        unreadable=len(labelled)
        - int(found.table.groupby(found.table["scan_id"].map(file_id_of))["files"].max().sum()),
    )


def check_scans(scans: Scans) -> None:
    """Raise CannotCommission unless there are enough scans of each class, and none of both."""
    both = int(scans.table["scan_id"].duplicated().sum())
    if both:
        raise CannotCommission(f"{both} scans lie in folders of both labels. Decide which is right, then run it again.")
    tumours = int(scans.table["label"].sum())
    healthy = len(scans) - tumours
    if len(scans) < FEWEST:
        raise CannotCommission(f"DATA holds {len(scans)} different scans. {FEWEST} are the fewest: label some more.")
    if min(tumours, healthy) < FEWEST_OF_A_CLASS:
        raise CannotCommission(
            f"DATA holds {tumours} scans with a tumour and {healthy} without. At least {FEWEST_OF_A_CLASS} of each "
            "are needed: label some more of the rarer kind."
        )


def _check_folders(files: list[Path], labels: list[Label | None]) -> None:
    astray = sum(label is None and _is_scan(path) for path, label in zip(files, labels, strict=True))
    if astray:
        raise CannotCommission(
            f"{astray} scans lie in folders whose names tell no label. {_folders()} Move them, or out of DATA."
        )


def _is_scan(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(_format(file.read(512)))


def _folders() -> str:
    of = {label: [name for name, each in LABEL_MAP.items() if each is label] for label in Label}
    return (
        f"A tumour is told by a folder called {_either(of[Label.CANCER])}, none by {_either(of[Label.NON_CANCER])}; "
        "large or small letters are the same."
    )


def _either(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _join_pages(scans: Scans) -> None:
    """Make the pages of a file, of which nothing says whose they are, one person's."""
    table = scans.table
    paged = table["scan_id"].map(lambda name: page_of(name) is not None) & (table["person"] == "")
    table.loc[paged, "person"] = table.loc[paged, "scan_id"].map(file_id_of)


def _sequences(scans: Scans, files: list[Path]) -> list[str]:
    """Return each scan's sequence: as sources.csv says, else as the DICOM header does, else empty."""
    told = {}
    for path in files:
        content = path.read_bytes()
        if _format(content) == "DICOM":
            told[file_id(content)] = _sequence(content)
    table = scans.table
    return [
        known or told.get(file_id_of(name), "") for name, known in zip(table["scan_id"], table["sequence"], strict=True)
    ]


def _format(content: bytes) -> str:
    """Return a file's format by its first bytes; empty if it is no scan."""
    try:
        return decoding.format_of(content[:512])
    except RejectedScan:
        return ""


def _sequence(content: bytes) -> str:
    try:
        return decoding.decode(content).attributes.sequence or ""
    except RejectedScan:
        return ""
