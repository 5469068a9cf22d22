"""Results to an EMR as an HL7 v2 message over MLLP (HL7 Implementation Support Guide, appendix C)."""

import socket
import time

from services.gateway.destinations.errors import Undelivered
from services.gateway.results import Result
from shared.results.hl7 import control_id, observation_message

_TIMEOUT_S = 30
"""For a connection, for the message and for its whole acknowledgement, however it trickles."""
_START, _END = b"\x0b", b"\x1c\r"
_MAX_ANSWER = 65_536
_ACCEPTED = {"AA", "CA"}


def deliver(result: Result, address: tuple[str, int]) -> None:
    """Send the message and wait for its acknowledgement. Raises Undelivered."""
    message = observation_message(result.answer, result.headers[0])
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            connection.sendall(_START + message.encode() + _END)
            acknowledgement = _received(connection)
    except OSError as error:
        raise Undelivered(f"The HL7 interface did not answer: {type(error).__name__}") from None
    _check(acknowledgement, control_id(result.answer))


def _received(connection: socket.socket) -> str:
    content, until = b"", time.monotonic() + _TIMEOUT_S
    while not content.endswith(_END) and len(content) < _MAX_ANSWER:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(4096)
        if not part:
            break
        content += part
    return content.removeprefix(_START).removesuffix(_END).decode("utf-8", "replace")


def _check(acknowledgement: str, sent: str) -> None:
    """Raise Undelivered unless the acknowledgement takes on this very message."""
    segments = [line.split("|") for line in acknowledgement.replace("\n", "\r").split("\r")]
    fields = next((segment for segment in segments if segment[0] == "MSA"), ["MSA", "", ""])
    code, of = [*fields, "", ""][1:3]
    if code not in _ACCEPTED or of != sent:
        raise Undelivered(f"The HL7 interface answered {code or 'nothing'} instead of AA.")
