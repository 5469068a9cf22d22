"""A hospital's HL7 interface: takes messages over MLLP, keeps each in a file, and acknowledges it.

python -m local.hospital.hl7_listener --port 2575 --directory .local/state/hospital/hl7
"""

import argparse
import socketserver
import threading
from datetime import UTC, datetime
from pathlib import Path

from hl7apy.core import Message
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

_START, _END = b"\x0b", b"\x1c\r"
_MAX_MESSAGE = 2**20


class Listener(socketserver.ThreadingTCPServer):
    """Takes messages over MLLP into a folder."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, directory: Path) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.directory = directory
        self.writing = threading.Lock()


class _Connection(socketserver.StreamRequestHandler):
    server: Listener

    def handle(self) -> None:
        """Answer every message of a connection."""
        content = b""
        while part := self.connection.recv(65_536):
            content += part
            while _END in content and len(content) < _MAX_MESSAGE:
                message, _, content = content.partition(_END)
                answer = self._taken(message.removeprefix(_START).decode())
                self.connection.sendall(_START + answer.encode() + _END)

    def _taken(self, text: str) -> str:
        """Return the acknowledgement of a message: AA once it is kept, AR where it is not valid HL7 v2.5.1."""
        try:
            message = parse_message(text, validation_level=1)
        except (HL7apyException, ValueError):  # of a date that is none
            return _acknowledgement("AR", "")
        control_id = message.msh.msh_10.value
        with self.server.writing:
            (self.server.directory / f"{control_id}.hl7").write_text(text.replace("\r", "\n"))
        return _acknowledgement("AA", control_id)


def _acknowledgement(code: str, control_id: str) -> str:
    answer = Message("ACK", version="2.5.1")
    answer.msh.msh_7 = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    answer.msh.msh_9, answer.msh.msh_10, answer.msh.msh_11 = "ACK^R01^ACK", f"A{control_id}"[:20], "P"
    answer.msa.msa_1 = code
    if control_id:
        answer.msa.msa_2 = control_id
    return str(answer.to_er7()) + "\r"


def main() -> None:
    """Listen until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="keeps a file for each message")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with Listener(arguments.port, arguments.directory) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
