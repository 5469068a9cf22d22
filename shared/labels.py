"""What folder names say of a scan: one rule for uploading, ingestion, training and the uploads bucket."""

from collections.abc import Mapping
from enum import StrEnum


class Label(StrEnum):
    """The folder a scan was uploaded to, which is all that anybody has said about it."""

    CANCER = "Cancer"
    NON_CANCER = "Non-Cancer"
    UNLABELLED = "Unlabelled"


def label_of(object_name: str) -> Label:
    """Label of an object by its top folder; anything outside Cancer/ and Non-Cancer/ is unlabelled."""
    folder = object_name.partition("/")[0]
    return Label(folder) if folder in set(Label) else Label.UNLABELLED


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
    """`glioma=Cancer,notumor=Non-Cancer` as a mapping of folder names in lower case; empty is LABEL_MAP.

    Raises ValueError where a pair is not folder=Label.
    """
    if not text:
        return LABEL_MAP
    pairs = (pair.split("=", 1) for pair in text.split(","))
    try:
        return {folder.strip().lower(): Label(label.strip()) for folder, label in pairs}
    except ValueError:
        raise ValueError(f"a label map reads folder=Label,... with labels {', '.join(Label)}, not {text!r}") from None


def mapped_label(path: str, label_map: Mapping[str, Label]) -> Label | None:
    """Label by the deepest folder of a path that the map names; None where it names none."""
    folders = path.lower().split("/")[:-1]
    return next((label_map[folder] for folder in reversed(folders) if folder in label_map), None)
