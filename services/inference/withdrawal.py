"""What this process tells others of a challenger that left its band: the pointer drops it, and a row says why."""

import logging
from dataclasses import dataclass

from shared.gcp import bigquery, release_decisions
from shared.gcp.registry import RELEASES, PointerMoved, read_pointer, set_challenger

_TRIES = 5
"""Other instances write the same pointer at the same moment."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A challenger that was taken out of the pointer here, and is not in `release_decisions` yet."""

    version: str
    reasons: list[str]
    before: str | None


def end(version: str, reasons: list[str]) -> Withdrawal | None:
    """Take a challenger out of the pointer; None if another writer did. Raises StorageError, PointerMoved."""
    for attempt in range(_TRIES):
        pointer = read_pointer(RELEASES)
        if pointer.challenger != version:
            return None
        try:
            set_challenger(RELEASES, None, 0, pointer)
        except PointerMoved:
            if attempt == _TRIES - 1:
                raise
        else:
            return Withdrawal(version, reasons, pointer.version)
    raise AssertionError("unreachable")


def record(withdrawal: Withdrawal) -> bool:
    """Write the row of a withdrawal; False, and logged, if BigQuery does not take it now."""
    try:
        release_decisions.record(withdrawal.version, "withdrawn", withdrawal.before, withdrawal.reasons)
    except bigquery.BigQueryError as error:
        logger.error("%s; the withdrawal of %s is recorded later", error, withdrawal.version)
        return False
    return True
