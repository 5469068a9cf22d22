"""The HL7 message is valid, and no value from a header can break out of its field."""

from pathlib import Path

import pytest
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from shared.results.headers import read_header
from shared.results.hl7 import control_id, escaped, observation_message
from tests.support.series import slices, summarised


def test_message_is_valid_and_says_probability_class_and_type() -> None:
    files = slices()[10:11]
    message = observation_message(summarised(files), read_header(files[0]))
    assert parse_message(message, validation_level=1).validate()
    segments = [segment.split("|") for segment in message.rstrip("\r").split("\r")]
    assert [segment[0] for segment in segments] == ["MSH", "PID", "OBR", *["OBX"] * 8]
    assert [segment[5] for segment in segments[3:5]] == ["93.00", "52101004^Present^SCT"]
    assert {segment[11] for segment in segments if segment[0] == "OBX"} == {"P"}


def test_patient_is_the_headers() -> None:
    files = slices()[10:11]
    header = read_header(files[0])
    header.PatientName, header.PatientID = "Doe^Jane^Q^Dr^Jr", "47|11"
    pid = observation_message(summarised(files), header).split("\r")[1].split("|")
    assert pid[3] == r"47\F\11"
    assert pid[5] == "Doe^Jane^Q^Jr^Dr"


def test_same_revision_has_the_same_control_id_and_another_has_another() -> None:
    files = slices()[10:11]
    assert control_id(summarised(files)) == control_id(summarised(files))
    assert control_id(summarised(files)) != control_id(summarised(files, revision="f" * 64))
    assert len(control_id(summarised(files))) <= 20


@pytest.mark.parametrize("value", ["a\rPID|evil", "a|b", "a^b", "a~b", "a&b", "a\\b", "\x0b\x1c\r", "ä山"])
def test_no_value_breaks_out_of_its_field(value: str) -> None:
    files = slices()[10:11]
    header = read_header(files[0])
    header.AccessionNumber = value
    message = observation_message(summarised(files), header)
    segments = message.rstrip("\r").split("\r")
    assert [segment[:3] for segment in segments] == ["MSH", "PID", "OBR", *["OBX"] * 8]
    assert segments[2].count("|") == 25
    assert "\x0b" not in message
    assert "\x1c" not in message


@pytest.mark.parametrize("folder", ["brainix-epi", "structural-t1"])
def test_dirty_header_still_gives_a_valid_message(data: Path, folder: str) -> None:
    content = min((data / "dicom" / folder).iterdir()).read_bytes()
    assert parse_message(
        observation_message(summarised([content]), read_header(content)), validation_level=1
    ).validate()


@given(st.text())
def test_escaped_text_holds_no_delimiter(text: str) -> None:
    assert not set("|^&~\r\n\x0b\x1c") & set(escaped(text))
