"""Every link, path, command and environment variable that the documentation names exists."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "reports" / "current" / "model_card.md"])
# A decision is dated: it may name what is gone since.
PRESENT = [page for page in PAGES if "adr" not in page.parts]
TOP = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(text: str) -> Iterator[str]:
    """Inline code, and the lines of fenced blocks."""
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:)([^)\s]*)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in {slug(line) for line in re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)}, link


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_paths_exist(page: Path) -> None:
    """Inline code that begins with a folder of ours names something that is there; `<x>` and `*` stand for anything."""
    for text in code(page.read_text()):
        for path in re.findall(rf"(?<![\w/.$:-])((?:{'|'.join(sorted(TOP))})/[\w./<>*-]*)", text):
            pattern = re.sub(r"<[^>]*>", "*", path.rstrip("/."))
            assert any(ROOT.glob(pattern)), path


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_make_targets_exist(page: Path) -> None:
    for text in code(page.read_text()):
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", text):
            assert target in TARGETS, target


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_modules_that_are_run_exist(page: Path) -> None:
    for text in code(page.read_text()):
        for module in re.findall(r"python -m ((?:services|local|tests|shared|terraform)[\w.]*)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_readme_fits_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_decisions_have_a_number_a_date_and_three_parts() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert len(set(numbers)) == len(numbers)
    for record in records:
        text = record.read_text()
        assert re.match(rf"# {int(record.name[:4])}\. .+\n\nDate: \d{{4}}-\d\d-\d\d\n", text), record.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], record.name


def test_nothing_refers_to_what_a_reader_does_not_have() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.tf", "*.yaml", "Makefile"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.split()
    own = Path(__file__).relative_to(ROOT).as_posix()
    words = re.compile(r"\b(?:DECISIONS(?:\.md)?|FINDINGS|STYLE\.md|DESIGN\.md|[A-Z]+_REVIEW|the mission)\b")
    found = [file for file in files if file != own and words.search((ROOT / file).read_text())]
    assert not found
