"""Identifiers of result objects: the same series, revision and kind always give the same UID."""

import uuid

MANUFACTURER = "Scanflow"
"""Of every result object, by which the gateway knows its own when they come back."""
MODEL_NAME = "Scanflow brain MRI"
NOTICE = "Unverified. For research use only, not a medical device."
_NAMESPACE = uuid.UUID("8e3b5c8a-0f0b-5d6e-9a55-5c616e666c77")


def uid_of(*parts: str) -> str:
    """Return a DICOM UID made of `parts`, in the root 2.25 for UUIDs (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


def series_uid(series_id: str, kind: str) -> str:
    """Return the Series Instance UID that all revisions of one kind of result share."""
    return uid_of(series_id, kind)


def instance_uid(revision: str, series_id: str, kind: str) -> str:
    """Return the SOP Instance UID of one result object; `kind` tells the objects of a revision apart."""
    return uid_of(series_id, revision, kind)
