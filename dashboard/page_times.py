"""How long pages take to draw and how often they fail, as log entries that Terraform makes metrics of."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from shared.gcp import logs

logger = logging.getLogger(__name__)


def configure() -> None:
    """Send this module's entries, and everybody's warnings, to standard error as JSON."""
    logs.configure(logging.WARNING)
    logger.setLevel(logging.INFO)


@contextmanager
def timed(page: str) -> Iterator[None]:
    """Log the seconds that a page takes to draw, and whether it failed.

    A run that Streamlit itself ends, because a person has clicked on, is no failure: its exceptions are no `Exception`.
    """
    start = perf_counter()
    try:
        yield
    finally:
        kind = sys.exc_info()[0]
        seconds = round(perf_counter() - start, 3)
        if kind is None:
            logger.info("page drawn", extra={"page": page, "seconds": seconds})
        elif issubclass(kind, Exception):
            logger.error("page failed", extra={"page": page, "seconds": seconds, "error": kind.__name__})
