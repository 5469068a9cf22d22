"""What is logged of a page that is drawn, fails, or is left."""

import json
import logging
import subprocess

import pytest
from streamlit.runtime.scriptrunner import StopException

from dashboard import page_times
from tests.support.servers import ROOT, python


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.getMessage(), record.page) for record in caplog.records if record.name == page_times.__name__]


def test_a_page_that_is_drawn_is_timed(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with page_times.timed("Worklist"):
        pass
    assert logged(caplog) == [("page drawn", "Worklist")]
    assert caplog.records[0].seconds >= 0


def test_a_page_that_fails_is_counted_and_fails_all_the_same(caplog: pytest.LogCaptureFixture):
    with pytest.raises(KeyError), page_times.timed("Model"):
        raise KeyError("a patient's name")
    assert logged(caplog) == [("page failed", "Model")]
    assert "patient" not in str(vars(caplog.records[0]))


def test_a_page_that_a_person_left_is_neither(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with pytest.raises(StopException), page_times.timed("Model"):
        raise StopException
    assert logged(caplog) == []


def test_the_entries_are_json_on_standard_error():
    code = "from dashboard import page_times as t; t.configure()\nwith t.timed('Data'): pass"
    line = subprocess.run(python("-c", code), cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert json.loads(line)["message"] == "page drawn"
    assert json.loads(line)["page"] == "Data"
