"""Log lines: JSON that Cloud Logging reads, text on a terminal, the same call for both."""

import json
import logging
from collections.abc import Iterator

import pytest

from shared.gcp import logs

logger = logging.getLogger("shared.example")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = [handler for handler in handlers if not isinstance(handler, logs._StandardError)]
    yield root
    root.handlers, root.level = handlers, level


def test_entry_is_one_json_object_with_severity_and_fields(
    root: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure()
    logger.warning("rejected", extra={"file_id": "a" * 64, "pages": 2})
    entry = json.loads(capfd.readouterr().err)
    assert (entry["severity"], entry["message"], entry["file_id"], entry["pages"]) == (
        "WARNING",
        "rejected",
        "a" * 64,
        2,
    )


def test_exception_is_a_field_of_its_entry(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        raise ValueError("out of range")
    except ValueError:
        logger.exception("failed")
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["stack_trace"].endswith("ValueError: out of range")


def test_second_configuration_writes_no_line_twice(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    logger.info("once")
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_information_of_any_module_is_written(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("services.inference").info("serving release %s", "v1")
    assert json.loads(capfd.readouterr().err)["message"] == "serving release v1"


def test_terminal_gets_text(
    root: logging.Logger, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logs.configure()
    logger.info("ingested", extra={"copied": 3})
    line = capfd.readouterr().err.strip()
    assert line.endswith("INFO    ingested copied=3")
