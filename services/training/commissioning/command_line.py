"""What the commands of commissioning have in common."""

import sys

BAD_SOURCE = "SOURCE is no name of a source: take at most 32 lower-case letters, digits and dashes, as in ward-3."


def failed(sentence: str, status: int) -> int:
    """Say why a command ends, and return its exit status."""
    print(sentence, file=sys.stderr)
    return status
