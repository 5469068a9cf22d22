"""A summarised series and the DICOM files that it rests on, with a patient's name that must go nowhere."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from local.hospital import study
from shared.events import ScoredSlice, SeriesSummarised
from shared.pseudonyms import pseudonym

KEY = bytes(32)
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


@cache
def slices(name: str = "test") -> list[bytes]:
    """Return the DICOM files of a sample series, made with the name of the patient."""
    return study.series(study.head(), name, AT)


def summarised(files: Sequence[bytes], **changes: Any) -> SeriesSummarised:
    """Return the answer for a series of which `files` are the most suspicious slices, in order."""
    ids = [hashlib.sha256(file).hexdigest() for file in files]
    facts = {
        "series_id": pseudonym(KEY, "series"),
        "study_id": pseudonym(KEY, "study"),
        "label": "Unlabelled",
        "source": "gateway",
        "revision": "e" * 64,
        "model_version": "2026-11-23.1",
        "prediction": "Cancer",
        "probability": 0.93,
        "lowest_probability": 0.88,
        "highest_probability": 0.95,
        "threshold": 0.5,
        "tumour_type": "glioma",
        "scored": 143,
        "accepted": 150,
        "suspicious": [_slice(scan_id) for scan_id in ids],
        "answered_at": "2026-11-26T12:00:00.123456+00:00",
    }
    return SeriesSummarised(**facts | changes)


def _slice(scan_id: str) -> ScoredSlice:
    return ScoredSlice(
        scan_id=scan_id, name=f"Unlabelled/{scan_id}.png", probability=0.9, prediction="Cancer", position_mm=1.0
    )
