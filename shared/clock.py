"""The time, as every event and row writes it."""

from datetime import UTC, datetime


def now() -> str:
    """RFC 3339 time in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat()


def seconds_since(time: str) -> float:
    """Seconds from an RFC 3339 time until now."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
