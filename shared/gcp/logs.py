"""Structured logs: one JSON object a line on standard output, which Cloud Logging reads as it is."""

import json
import sys


def log(message: str, severity: str = "INFO", **fields: str | float | bool | None) -> None:
    """Write one entry. Ids, reasons and counts only: never a file name, a tag or a row."""
    sys.stdout.write(json.dumps({"severity": severity, "message": message, **fields}) + "\n")
    sys.stdout.flush()
