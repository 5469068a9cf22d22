"""Cloud Scheduler -> new objects of a source bucket copied into Cancer/, Non-Cancer/ or Unlabelled/, never twice."""

import logging
from collections import Counter
from collections.abc import Mapping

import flask
import functions_framework

from shared import config
from shared.gcp import logs, storage
from shared.gcp.storage import Blob
from shared.labels import Label, label_of, parse_label_map

logs.configure()
logger = logging.getLogger(__name__)


@functions_framework.http
def ingest_scans(request: flask.Request) -> dict[str, int]:
    """Copy what the uploads bucket does not hold yet. Answers how many were copied and how many were known."""
    label_map = parse_label_map(config.label_map())
    known = {blob.name for blob in storage.objects(config.uploads_bucket())}
    outcomes = Counter(copied=0, known=0)
    for source in storage.objects(config.source_bucket(), config.source_prefix()):
        outcomes[_ingest(source, label_map, known)] += 1
    logger.info("ingested", extra=outcomes)
    return dict(outcomes)


def _ingest(source: Blob, label_map: Mapping[str, Label], known: set[str]) -> str:
    """Copy one object under a name made of its content: the same bytes go once, whatever the source calls them."""
    label = label_of(source.name, label_map)
    name = f"{label}/{storage.fingerprint(source)}"
    if name in known or not storage.copy(source, config.uploads_bucket(), name):
        return "known"
    known.add(name)
    return "copied"
