"""A new site, learnt from its readers."""

from pathlib import Path


def measured(data: Path, folder: Path) -> dict[str, object]:
    raise NotImplementedError
