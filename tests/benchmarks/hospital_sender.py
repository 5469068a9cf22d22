"""A C-STORE sender on a plain socket, whose messages are encoded before the clock starts.

pynetdicom takes as long to send an instance as to receive one, and its sender would be measured with the receiver.
"""

import socket
import struct

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

_APPLICATION, _IMPLEMENTATION = b"1.2.840.10008.3.1.1.1", b"2.25.1"
_PEER_LIMIT, _LARGEST = 0x51, 128 * 1024
_TIMEOUT_S = 300
"""The slow answer is what is measured."""


class Sender:
    """An association with one presentation context (PS3.8 9.3)."""

    def __init__(self, port: int, first: Dataset) -> None:
        """Associate for instances of the first one's class and transfer syntax. Raises ConnectionError."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        if self._socket.getsockname() == self._socket.getpeername():  # TCP does that where nobody listens
            raise ConnectionError("Connected to itself.")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        syntax = str(first.file_meta.TransferSyntaxUID).encode()
        self._socket.sendall(_request(str(first.SOPClassUID).encode(), syntax))
        kind, answer = self._pdu()
        if kind != 2:
            raise ConnectionError("The association was refused.")
        self.pdu_bytes = min(_limit(answer[68:]), _LARGEST)

    def store(self, message: bytes) -> int:
        """Send an encoded message and return the status of its answer."""
        self.send(message)
        kind, answer = self._pdu()
        if kind != 4:
            raise ConnectionError("The association ended.")
        at = answer.rindex(b"\x00\x00\x00\x09\x02\x00\x00\x00")  # the last: message 521 looks like it, too
        return int.from_bytes(answer[at + 8 : at + 10], "little")

    def send(self, content: bytes) -> None:
        """Send bytes of a message, and wait for nothing."""
        self._socket.sendall(content)

    def abort(self) -> None:
        """Abort the association (PS3.8 9.3.8)."""
        self._socket.sendall(_pdu(7, bytes(4)))
        self._socket.close()

    def release(self) -> None:
        """Release the association."""
        self._socket.sendall(_pdu(5, bytes(4)))
        self._pdu()
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._socket.recv(count - len(content))
            if not part:
                raise ConnectionError("The connection ended.")
            content += part
        return content


def message(instance: Dataset, number: int, pdu_bytes: int) -> bytes:
    """Return C-STORE-RQ (PS3.7 9.3.1) as the PDUs of one message."""
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    command.CommandField, command.MessageID = 1, number % 65_536
    command.Priority, command.CommandDataSetType = 0, 1
    command.CommandGroupLength = len(_encoded(command))
    fragments = [(3, _encoded(command))]
    content, most = _encoded(instance, implicit=False), pdu_bytes - 6
    parts = [content[at : at + most] for at in range(0, len(content), most)]
    fragments += [(2 if place == len(parts) else 0, part) for place, part in enumerate(parts, start=1)]
    return b"".join(_pdu(4, struct.pack(">IBB", len(part) + 2, 1, flags) + part) for flags, part in fragments)


def _encoded(dataset: Dataset, implicit: bool = True) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _request(sop_class: bytes, transfer_syntax: bytes) -> bytes:
    context = bytes([1, 0, 0, 0]) + _item(0x30, sop_class) + _item(0x40, transfer_syntax)
    user = _item(_PEER_LIMIT, struct.pack(">I", _LARGEST)) + _item(0x52, _IMPLEMENTATION)
    titles = b"SCANFLOW".ljust(16) + b"BENCH".ljust(16)
    return _pdu(
        1, b"\0\1\0\0" + titles + bytes(32) + _item(0x10, _APPLICATION) + _item(0x20, context) + _item(0x50, user)
    )


def _limit(items: bytes) -> int:
    at = items.index(bytes([_PEER_LIMIT, 0, 0, 4]))
    return int.from_bytes(items[at + 4 : at + 8], "big") or _LARGEST


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content
