"""Every setting is documented, and every documented setting is read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCES = [ROOT / "services/inference/settings.py", ROOT / "services/inference/__main__.py"]


def test_the_guide_lists_exactly_the_variables_that_are_read():
    code = "".join(path.read_text() for path in SOURCES)
    read = set(re.findall(r'(?:environ\.get|_number|_words)\("([A-Z_]+)"', code))
    settings = (ROOT / "docs/guides/rest.md").read_text().partition("## Settings")[2]
    rows = [line.split("|")[1] for line in settings.splitlines() if line.startswith("| `")]
    assert read == {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
