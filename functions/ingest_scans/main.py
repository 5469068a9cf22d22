"""Cloud Scheduler -> new objects of a source bucket copied into Cancer/, Non-Cancer/ or Unlabelled/, never twice."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import batched

import flask
import functions_framework

from shared import config
from shared.gcp import logs, storage
from shared.gcp.storage import Blob, StorageError
from shared.labels import Label, label_of, parse_label_map

logs.configure()
logger = logging.getLogger(__name__)

_COPIES = 16
"""At a time: a copy is mostly waiting."""
_GROUP = 1_000
"""Objects handed to the threads together, so that a listing of millions is not held in memory."""


@functions_framework.http
def ingest_scans(_request: flask.Request) -> dict[str, int]:
    """Copy what the uploads bucket does not hold yet; return how many were copied and how many were known.

    One object that cannot be copied holds up no other: raises ExceptionGroup of StorageError after all were tried.
    """
    label_map = parse_label_map(config.label_map())
    known = {blob.name for blob in storage.objects(config.uploads_bucket())}
    outcomes: Counter[str] = Counter(copied=0, known=0)
    failures = []
    for outcome in _ingested(label_map, known):
        if isinstance(outcome, StorageError):
            failures.append(outcome)
        else:
            outcomes[outcome] += 1
    logger.log(logging.ERROR if failures else logging.INFO, "ingested", extra={**outcomes, "failed": len(failures)})
    if failures:
        raise ExceptionGroup(f"{len(failures)} objects could not be copied; the next run tries again", failures[:20])
    return dict(outcomes)


def _ingested(label_map: Mapping[str, Label], known: set[str]) -> Iterator[str | StorageError]:
    objects = storage.objects(config.source_bucket(), config.source_prefix())
    with ThreadPoolExecutor(_COPIES) as threads:
        for group in batched(objects, _GROUP, strict=False):
            new = {name: blob for blob in group if (name := _name(blob, label_map)) not in known}
            yield from ["known"] * (len(group) - len(new))
            yield from threads.map(partial(_copy, known), new.values(), new)


def _name(source: Blob, label_map: Mapping[str, Label]) -> str:
    """Name made of the content: the same bytes go once, whatever the source calls them."""
    return f"{label_of(source.name, label_map)}/{storage.fingerprint(source)}"


def _copy(known: set[str], source: Blob, name: str) -> str | StorageError:
    try:
        copied = storage.copy(source, config.uploads_bucket(), name)
    except StorageError as error:
        return error
    known.add(name)
    return "copied" if copied else "known"
