"""The time, as every event and row writes it."""

from datetime import UTC, datetime


def now() -> str:
    """RFC 3339 time in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat()
