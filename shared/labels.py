"""What folder names say of a scan: one rule for uploading, ingestion, training and the uploads bucket."""

from collections.abc import Mapping
from enum import StrEnum


class Label(StrEnum):
    """The folder a scan was uploaded to, which is all that anybody has said about it."""

    CANCER = "Cancer"
    NON_CANCER = "Non-Cancer"
    UNLABELLED = "Unlabelled"


LABEL_MAP = {
    "cancer": Label.CANCER,
    "glioma": Label.CANCER,
    "meningioma": Label.CANCER,
    "pituitary": Label.CANCER,
    "yes": Label.CANCER,
    "non-cancer": Label.NON_CANCER,
    "notumor": Label.NON_CANCER,
    "no": Label.NON_CANCER,
    "unlabelled": Label.UNLABELLED,
}
"""Folders of the public brain-tumour sets, and our own, in lower case."""


def parse_label_map(text: str) -> dict[str, Label]:
    """Return LABEL_MAP with the folders of `inbox=Unlabelled,suspicious=Cancer` added to it or changed in it.

    Raises ValueError if a pair is not folder=Label.
    """
    if not text:
        return LABEL_MAP
    pairs = (pair.split("=", 1) for pair in text.split(","))
    try:
        return LABEL_MAP | {folder.strip().lower(): Label(label.strip()) for folder, label in pairs}
    except ValueError:
        raise ValueError(f"a label map reads folder=Label,... with labels {', '.join(Label)}, not {text!r}") from None


def label_folder(path: str, label_map: Mapping[str, Label] = LABEL_MAP) -> str | None:
    """Return the deepest folder of a path that the map names, in lower case; None if it names none."""
    folders = path.lower().split("/")[:-1]
    return next((folder for folder in reversed(folders) if folder in label_map), None)


def mapped_label(path: str, label_map: Mapping[str, Label] = LABEL_MAP) -> Label | None:
    """Return the label of the deepest folder of a path that the map names; None if it names none."""
    folder = label_folder(path, label_map)
    return label_map[folder] if folder else None


def label_of(path: str, label_map: Mapping[str, Label] = LABEL_MAP) -> Label:
    """Return the label of the deepest folder of a path that the map names; UNLABELLED if it names none."""
    return mapped_label(path, label_map) or Label.UNLABELLED
