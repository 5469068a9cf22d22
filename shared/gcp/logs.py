"""One logging set-up for functions, services and the Spark driver: `logging` as everybody knows it, on standard error.

JSON with a severity, which Cloud Logging reads as it is; plain text if standard error is a terminal. Log ids, reasons
and counts only, as `extra={...}`: never a file name, a tag or a row.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""Attributes of every record; what a record has beside them came with `extra`."""


def configure(level: int = logging.INFO) -> None:
    """Send every logger's records to standard error, as JSON or text. A second call changes nothing but the level."""
    root = logging.getLogger()
    root.setLevel(level)
    if not any(isinstance(handler, _StandardError) for handler in root.handlers):
        root.addHandler(_StandardError())
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it tells every call between Python and the JVM


class JsonFormatter(logging.Formatter):
    """Records as one JSON object a line, with the fields that Cloud Logging and Error Reporting look for."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        entry = {"severity": record.levelname, "message": record.getMessage(), "logger": record.name}
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        time = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps(entry | {"time": time} | _fields(record), default=str)


class TextFormatter(logging.Formatter):
    """Records for people: time, severity, message, then the fields as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the first line of a record; a traceback follows it."""
        return " ".join([super().formatMessage(record), *(f"{key}={value}" for key, value in _fields(record).items())])


class _StandardError(logging.StreamHandler[TextIO]):
    """Handler that looks standard error up at each record, so that redirecting it later works."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error as it is now."""
        return sys.stderr


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
